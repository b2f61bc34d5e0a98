"""Measure the speed of VidEoMT with random weights: frame by frame and in clips, the network alone and up to RLE masks.

    python tools/analysis_tools/benchmark_videomt.py [CONFIG ...] [--precision fp16 bf16] [--mode graphs compile] ...

Without a config, ViT-S, ViT-B and ViT-L are measured. If transformers with VidEoMT is installed, its network is
measured in the same run. --frames N processes a stream of N frames and prints the memory. Each number is also printed
to stderr as soon as it is measured.
"""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdet.apis.cli import CommandParser, config_file, positive_int, run_command
from mmdet.files import atomic_open, check_writable

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = [str(ROOT / f'configs/videomt_{size}_ytvis2019.py') for size in ('small', 'base', 'large')]


def size_of(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition('x')
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f'{text!r} is not HEIGHTxWIDTH, the height first, such as 448x800')
    return int(height), int(width)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser(prog='tools/analysis_tools/benchmark_videomt.py', description=__doc__,
                           formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='*', type=config_file, help='configs of VidEoMT (default: S, B, L)')
    parser.add_argument('--size', type=size_of, default=(448, 800), metavar='HEIGHTxWIDTH',
                        help='network input, multiples of 32 (default: 448x800, for a 720x1280 video)')
    parser.add_argument('--original', type=size_of, default=(720, 1280), metavar='HEIGHTxWIDTH',
                        help='size of the original frames and of the masks (default: 720x1280)')
    parser.add_argument('--clip', type=positive_int, nargs='+', default=[1, 8], metavar='N',
                        help='number of frames in a clip; 1: frame by frame (default: 1 8)')
    parser.add_argument('--precision', nargs='+', choices=('fp16', 'bf16', 'float32'), default=['fp16'],
                        help='precisions to measure (default: fp16)')
    parser.add_argument('--regime', nargs='+', choices=('autocast', 'whole'), default=['autocast', 'whole'], help=(
        'autocast: residuals and norms in float32, like the authors; whole: the whole network in the precision'))
    parser.add_argument('--mode', nargs='+', choices=('eager', 'graphs', 'compile'), default=['graphs', 'compile'],
                        help='graphs: CUDA graphs; compile: torch.compile and CUDA graphs (default: graphs compile)')
    parser.add_boolean('--skip_transformers', help='do not measure the network of transformers')
    parser.add_argument('--burst', type=positive_int, default=64, metavar='N',
                        help='number of frames in a burst (default: 64)')
    parser.add_argument('--warmup', type=positive_int, default=3, metavar='N',
                        help='number of bursts before timing (default: 3)')
    parser.add_argument('--repeats', type=positive_int, default=7, metavar='N',
                        help='number of timed bursts (default: 7)')
    parser.add_argument('--frames', type=positive_int, metavar='N',
                        help='also measure the memory over a stream of N frames, with the first config')
    parser.add_argument('--out', help='also write the numbers to this JSON file')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None) -> int:
    args = parse_args(argv)
    if args.out:
        check_writable(args.out, f'--out {args.out}')
    import torch
    from mmengine.device import get_device

    from mmdet.apis import load_config
    from tools.analysis_tools.measures import videomt_speed as speed
    from tools.analysis_tools.measures.hardware import hardware
    from tools.analysis_tools.measures.speed import Bench, say

    device = torch.device('cuda', torch.cuda.current_device()) if get_device() == 'cuda' else torch.device('cpu')
    modes = args.mode if device.type == 'cuda' else ['eager']
    bench = Bench(device, args.warmup, args.repeats, args.original)
    print(f'{hardware(device)}\n', flush=True)
    configs = [(Path(path).stem, load_config(path)) for path in args.configs or DEFAULT]
    for name, cfg in configs:
        for precision in args.precision:
            for clip in args.clip:
                for regime in args.regime:
                    for mode in modes:
                        speed.bench_network(bench, cfg, name, args.size, precision, regime, mode, clip, args.burst)
                    speed.bench_online(bench, cfg, name, args.size, precision, regime, clip, args.burst)
                for compiled in [] if args.skip_transformers else [mode == 'compile' for mode in modes]:
                    if not speed.bench_transformers(bench, cfg, name, args.size, precision, compiled, clip, args.burst):
                        say('transformers with VidEoMT is not installed and not measured')
                        args.skip_transformers = True
                        break
    memory = None
    if args.frames:
        memory = speed.memory_over_frames(bench, configs[0][1], args.size, args.precision[0], args.regime[0],
                                          args.frames)
    print(bench.table())
    if args.out:
        with atomic_open(args.out, 'w') as file:
            json.dump(dict(hardware=hardware(device), rows=bench.rows, memory=memory), file, indent=1)
    return 0


if __name__ == '__main__':
    run_command(main)
