"""Measure the speed and memory of a model: training step, online frame, batched clip, stages; print a table.

    python tools/analysis_tools/benchmark.py CONFIG [--train] [--loading] [--test] [--stages] [--gpus N] ...

The inputs are synthetic, so that the disk has no influence; only --loading reads the data of the config. Without any of
these flags --train, --test and --stages run. With --gpus N, N processes train with DistributedDataParallel, and the
pairs of all of them are counted. Each number is also printed to stderr as soon as it is measured.
"""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdet.apis.cli import CommandParser, config_file, positive_int, run_command
from mmdet.apis.launch import start_processes
from mmdet.files import atomic_open, check_writable


def parse_size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition('x')
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f'{text!r} is not HEIGHTxWIDTH, the height first, such as 480x864')
    return int(height), int(width)


def padded_size(text: str) -> tuple[int, int]:
    height, width = parse_size(text)
    if height % 32 or width % 32:
        raise argparse.ArgumentTypeError(f'{text!r}: inputs are padded to multiples of 32, and the height comes first, '
                                         'such as 480x864')
    return height, width


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser(prog='tools/analysis_tools/benchmark.py', description=__doc__,
                           formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', type=config_file, help='model config')
    parser.add_boolean('--train', help='measure a training step')
    parser.add_boolean('--loading', help='measure training with the data and workers of the config')
    parser.add_boolean('--test', help='measure frames per second, online and batched')
    parser.add_boolean('--stages', help='measure the stages of a test frame')
    parser.add_argument('--gpus', type=int, metavar='N', help='number of training processes, one for each GPU')
    parser.add_argument('--size', type=padded_size, nargs='+', default=[(480, 864)], metavar='HEIGHTxWIDTH',
                        help='size of the padded network input: 480x864 is 864 pixels wide (default: 480x864)')
    parser.add_argument('--original', type=parse_size, default=(720, 1280), metavar='HEIGHTxWIDTH',
                        help='size of the original frames and of the masks, height first (default: 720x1280)')
    parser.add_argument('--batch', type=positive_int, nargs='+', default=[1, 8], metavar='N',
                        help='number of frames in a clip for --test and --stages (default: 1 8)')
    parser.add_argument('--pairs', type=positive_int, default=4, metavar='N',
                        help='number of key/reference pairs in a training step (default: 4)')
    parser.add_argument('--precision', nargs='+', choices=('float32', 'tf32', 'amp'), default=['tf32', 'amp'],
                        help='precisions to measure (default: tf32 amp)')
    parser.add_argument('--warmup', type=positive_int, default=5, metavar='N',
                        help='number of calls before timing (default: 5)')
    parser.add_argument('--repeats', type=positive_int, default=20, metavar='N',
                        help='number of timed calls (default: 20)')
    parser.add_argument('--out', help='also write the numbers to this JSON file')
    parser.add_argument('--plot', help='also plot frames per second against batch and size to this PNG file')
    parser.add_argument('--launcher', default='none', help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if not (args.train or args.loading or args.test or args.stages):
        args.train = args.test = args.stages = True
    return args


def plot(rows: list[dict], path: str) -> None:
    """Plot the frames per second of test clips against the batch, with a line for each size and precision."""
    from matplotlib.figure import Figure

    lines: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if row['what'] == 'test clip':
            lines.setdefault(f'{row["size"]}, {row["precision"]}', []).append((row['frames'], row['per_second']))
    figure = Figure(figsize=(6, 4), layout='constrained')
    axes = figure.subplots()
    for label, points in lines.items():
        axes.plot(*zip(*sorted(points)), marker='o', label=label)
    batches = sorted({batch for points in lines.values() for batch, _ in points})
    axes.set_xscale('log', base=2)
    axes.set_xticks(batches, labels=map(str, batches))
    axes.set_xticks([], minor=True)
    axes.set(xlabel='frames of a clip at once', ylabel='frames per second', ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(title='input, precision')
    with atomic_open(path) as file:
        figure.savefig(file, format='png', dpi=120)


def main(argv: Sequence[str] | None) -> int:
    args = parse_args(argv)
    for flag in ('out', 'plot'):
        if path := getattr(args, flag):
            check_writable(path, f'--{flag} {path}')
    status = start_processes(args.gpus, args.launcher, sys.argv)
    if status is not None:
        return status
    import torch
    from mmengine.device import get_device
    from mmengine.dist import get_rank

    from mmdet.apis import load_config
    from mmdet.engine import init_processes, leave_processes
    from tools.analysis_tools.measures.hardware import hardware
    from tools.analysis_tools.measures.speed import Bench, bench_loading, bench_stages, bench_test, bench_train

    cfg = load_config(args.config)
    if args.launcher != 'none':
        init_processes(args.launcher)
    device = torch.device('cuda', torch.cuda.current_device()) if get_device() == 'cuda' else torch.device('cpu')
    bench = Bench(device, args.warmup, args.repeats, args.original)
    if get_rank() == 0:
        print(f'{args.config}: {hardware(device)}\n', flush=True)
    for size in args.size:
        for chosen, run in ((args.test, bench_test), (args.stages, bench_stages), (args.train, bench_train)):
            if chosen:
                run(bench, cfg, args, size)
    if args.loading:
        bench_loading(bench, cfg, args)
    rank = get_rank()
    leave_processes()
    if rank:
        return 0
    print(bench.table())
    if args.out:
        with atomic_open(args.out, 'w') as file:
            json.dump(dict(config=args.config, hardware=hardware(device), rows=bench.rows), file, indent=1)
    if args.plot:
        plot(bench.rows, args.plot)
    return 0


if __name__ == '__main__':
    run_command(main)
