"""Compare the built operator with plain PyTorch on every device it was built for; the last step of compile.sh.

Prints a summary of the build; exits with status 1 if the library does not load or computes wrong results.
"""
import sys

import torch

from . import compiled_library, correlation_reference
from .spatial_correlation import spatial_correlation_sample

# dtype, tolerance, parameters in the operator's order; the first setting runs the general kernels, the second the tiled
# CUDA kernels
CHECKS = (
    (torch.float64, 1e-12, ((1, 3), (4, 5), (2, 1), (0, 1), (1, 2), (2, 1))),
    (torch.float32, 1e-5, ((1, 1), (16, 16), (1, 1), (0, 0), (1, 1), (2, 2))),
)


def main() -> str | None:
    """Return None, or a one-line error message."""
    print(compiled_library.build_summary())
    if compiled_library.UNAVAILABLE:
        return 'spatial correlation: the built library cannot be used'
    devices = ['cpu']
    if compiled_library.has_cuda() and torch.cuda.is_available():
        devices.append('cuda')
    generator = torch.Generator().manual_seed(0)
    for dtype, tolerance, parameters in CHECKS:
        inputs = torch.randn(2, 2, 3, 9, 11, dtype=dtype, generator=generator)
        expected = correlation_reference.correlation(*inputs, *parameters)
        for device in devices:
            input1, input2 = inputs.to(device)
            out = spatial_correlation_sample(input1, input2, *parameters).cpu()
            if not torch.allclose(out, expected, rtol=0, atol=tolerance):
                return (f'spatial correlation: wrong results on {device}: the largest error is '
                        f'{(out - expected).abs().max():.3g}')
    untested = compiled_library.has_cuda() and 'cuda' not in devices
    print(f'spatial correlation: agrees with plain PyTorch on {" and ".join(devices)}'
          + ('; CUDA kernels were not tested, since there is no GPU' if untested else ''))
    return None


if __name__ == '__main__':
    sys.exit(main())
