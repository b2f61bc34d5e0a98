#!/usr/bin/env python
"""Compare the speed of the compiled spatial correlation with that of the plain PyTorch version; print a table.

    python tools/analysis_tools/benchmark_correlation.py [--device cuda] [--patch_size 16] …

The defaults are those of CMaskTrack R-CNN for its largest feature map. docs/benchmarks.md shows the output.
"""
from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdet.apis.cli import CommandParser, run_command

if TYPE_CHECKING:
    import torch


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/analysis_tools/benchmark_correlation.py', description=__doc__.splitlines()[0])
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: a GPU if there is one)')
    parser.add_argument('--shape', type=int, nargs=4, default=(2, 256, 96, 160), metavar=('N', 'C', 'H', 'W'),
                        help='shape of both inputs (default: 2 256 96 160)')
    parser.add_argument('--kernel_size', type=int, default=1, help='size of the kernel, odd (default: 1)')
    parser.add_argument('--patch_size', type=int, default=16, help='number of shifts in each direction (default: 16)')
    parser.add_argument('--dilation_patch', type=int, default=2, help='pixels between two shifts (default: 2)')
    parser.add_argument('--dtypes', nargs='+', default=['float32', 'float16'],
                        choices=['float64', 'float32', 'float16', 'bfloat16'],
                        help='dtypes to measure (default: float32 float16)')
    parser.add_argument('--seconds', type=float, default=2.0,
                        help='minimum duration of each measurement (default: 2)')
    return parser


def milliseconds(function: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Return the median time of a call in milliseconds, with synchronisation of the GPU."""
    import torch
    from torch.utils.benchmark import Timer

    function()
    timer = Timer('function()', globals={'function': function},
                  num_threads=1 if device.type == 'cuda' else torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=seconds).median * 1e3


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    import torch

    from mmdet.apis.inference import find_device
    from mmdet.errors import UserError
    from mmdet.ops import spatial_correlation_sample
    from mmdet.ops.correlation import build_summary, correlation_reference
    from mmdet.ops.correlation.compiled_library import UNAVAILABLE, has_cuda
    from tools.analysis_tools.measures.hardware import hardware

    device = find_device(args.device)
    if UNAVAILABLE or (device.type == 'cuda' and not has_cuda()):
        raise UserError(f'nothing to compare on {device.type}: {build_summary()}'
                        + ('' if UNAVAILABLE else '; run compile.sh where it finds CUDA'))
    parameters = {'kernel_size': (args.kernel_size,) * 2, 'patch_size': (args.patch_size,) * 2, 'stride': (1, 1),
                  'padding': (args.kernel_size // 2,) * 2, 'dilation': (1, 1),
                  'dilation_patch': (args.dilation_patch,) * 2}
    versions = {'operator': lambda a, b: spatial_correlation_sample(a, b, **parameters),
                'plain PyTorch': lambda a, b: correlation_reference.correlation(a, b, *parameters.values())}
    print(f'{hardware(device)}; {build_summary()}.')
    print(f'Inputs {tuple(args.shape)}, kernel {args.kernel_size}, patch {args.patch_size}, '
          f'dilation_patch {args.dilation_patch}; milliseconds, median.\n')
    print('| dtype | pass | operator | plain PyTorch | times faster |\n|---|---|---|---|---|')
    for name in args.dtypes:
        a, b = (torch.randn(*args.shape, device=device).to(getattr(torch, name)) for _ in range(2))
        grad = torch.randn(versions['operator'](a, b).shape, device=device).to(a.dtype)
        leaves = a.clone().requires_grad_(), b.clone().requires_grad_()
        for label, run in (
            ('forward', lambda version, a=a, b=b: version(a, b)),
            ('forward + backward', lambda version, x=leaves, g=grad: torch.autograd.grad(version(*x), x, g)),
        ):
            times = [milliseconds(lambda run=run, v=version: run(v), device, args.seconds)
                     for version in versions.values()]
            print(f'| {name} | {label} | {times[0]:.3f} | {times[1]:.1f} | {times[1] / times[0]:.0f} |')
    return 0


if __name__ == '__main__':
    run_command(main)
