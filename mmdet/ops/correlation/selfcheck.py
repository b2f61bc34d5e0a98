"""Last step of compile.sh: run the built operator against plain PyTorch on every device it was built for.

Prints what was built; exits with status 1 where the library does not load or its numbers are wrong.
"""
import sys

import torch

from . import library, reference
from .ops import spatial_correlation_sample

SETTINGS = {'kernel_size': (1, 3), 'patch_size': (4, 5), 'stride': (2, 1), 'padding': (0, 1), 'dilation': (1, 2),
            'dilation_patch': (2, 1)}


def main() -> str | None:
    """None, or the line that says what is wrong."""
    print(library.build_summary())
    if library.UNAVAILABLE:
        return 'spatial correlation: the library that was built cannot be used'
    devices = ['cpu']
    if library.has_cuda() and torch.cuda.is_available():
        devices.append('cuda')
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 2, 3, 9, 11, dtype=torch.float64, generator=generator)
    expected = reference.correlation(*inputs, *SETTINGS.values())
    for device in devices:
        out = spatial_correlation_sample(*inputs.to(device), **SETTINGS).cpu()
        if not torch.allclose(out, expected, rtol=0, atol=1e-12):
            return f'spatial correlation: wrong numbers on {device}: off by {(out - expected).abs().max():.3g}'
    print(f'spatial correlation: agrees with plain PyTorch on {" and ".join(devices)}'
          + (', CUDA kernels untried: no GPU here' if library.has_cuda() and 'cuda' not in devices else ''))
    return None


if __name__ == '__main__':
    sys.exit(main())
