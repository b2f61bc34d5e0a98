"""Last step of compile.sh: run the built operator against plain PyTorch on every device it was built for.

Prints what was built; exits with status 1 where the library does not load or its numbers are wrong.
"""
import sys

import torch

from . import library, reference
from .ops import spatial_correlation_sample

# dtype, largest difference, parameters in the operator's order: the general kernels, and the blocked CUDA kernels
CHECKS = (
    (torch.float64, 1e-12, ((1, 3), (4, 5), (2, 1), (0, 1), (1, 2), (2, 1))),
    (torch.float32, 1e-5, ((1, 1), (16, 16), (1, 1), (0, 0), (1, 1), (2, 2))),
)


def main() -> str | None:
    """Return None, or one line that names the fault."""
    print(library.build_summary())
    if library.UNAVAILABLE:
        return 'spatial correlation: the library that was built cannot be used'
    devices = ['cpu']
    if library.has_cuda() and torch.cuda.is_available():
        devices.append('cuda')
    generator = torch.Generator().manual_seed(0)
    for dtype, tolerance, parameters in CHECKS:
        inputs = torch.randn(2, 2, 3, 9, 11, dtype=dtype, generator=generator)
        expected = reference.correlation(*inputs, *parameters)
        for device in devices:
            input1, input2 = inputs.to(device)
            out = spatial_correlation_sample(input1, input2, *parameters).cpu()
            if not torch.allclose(out, expected, rtol=0, atol=tolerance):
                return f'spatial correlation: wrong numbers on {device}: off by {(out - expected).abs().max():.3g}'
    print(f'spatial correlation: agrees with plain PyTorch on {" and ".join(devices)}'
          + (', CUDA kernels untried: no GPU here' if library.has_cuda() and 'cuda' not in devices else ''))
    return None


if __name__ == '__main__':
    sys.exit(main())
