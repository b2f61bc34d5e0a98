"""Measure speed and memory: of a model, or of every public path; compare two such measurements; print tables.

    python tools/analysis_tools/benchmark.py CONFIG [--train] [--loading] [--test] [--stages] [--gpus N] ...
    python tools/analysis_tools/benchmark.py [--paths training test ...] [--quick] --out new.json --plot growth.png
    python tools/analysis_tools/benchmark.py new.json [more.json ...] [--against old.json] [--plot growth.png]

With a config: a training step, an online frame, a batched clip and the stages. The inputs are synthetic, so that the
disk has no influence; only --loading reads the data of the config. Without any of these flags --train, --test and
--stages run. With --gpus N, N processes train with DistributedDataParallel, and the pairs of all of them are counted.

Without a config: every public path, with the settings for this device, on synthetic data. --out is written after each
path. A path that fails does not end the others; the exit status is 1 then, and --out has the reason.

--against compares with an earlier file of --out: the ratio of the medians, and the range of that ratio within the
spread of both, the quartiles; rows that changed by more are marked. With files instead of a config, nothing is
measured: their rows, together, are compared or plotted. Each number is also printed to stderr as soon as it is
measured.
"""
from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdet.apis.allocator import keep_freed_memory
from mmdet.apis.cli import CommandParser, config_file, existing_file, positive_int, run_command
from mmdet.apis.launch import start_processes
from mmdet.errors import UserError
from mmdet.files import atomic_open, check_writable

if TYPE_CHECKING:
    from tools.analysis_tools.measures.speed import Bench

PATHS = ('training', 'loading', 'test', 'test_files', 'video', 'scoring', 'rle', 'association', 'correlation',
         'kernels', 'sipmask', 'masktrack', 'fcos', 'torchvision', 'videomt', 'sizes', 'gpus')


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


def config_or_record(text: str) -> str:
    return existing_file(text) if text.endswith('.json') else config_file(text)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser(prog='tools/analysis_tools/benchmark.py', description=__doc__,
                           formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('inputs', nargs='*', type=config_or_record, metavar='CONFIG_OR_FILE', help=(
        'model config, or files of --out to compare or plot (default: measure every public path)'))
    parser.add_argument('--paths', nargs='+', choices=PATHS, default=PATHS, metavar='PATH',
                        help=f'without a config: what to measure, of {", ".join(PATHS)} (default: all)')
    parser.add_boolean('--quick', help='without a config: tiny inputs on the CPU, in seconds, to try the command')
    parser.add_argument('--against', type=existing_file, metavar='OLD.json',
                        help='compare with this earlier file of --out')
    parser.add_boolean('--any_hardware', help='let --against compare measurements of different hardware')
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
    parser.add_argument('--warmup', type=positive_int, metavar='N',
                        help='number of calls before timing (default: 5; 1 with --quick)')
    parser.add_argument('--repeats', type=positive_int, metavar='N',
                        help='number of timed calls (default: 20; 2 with --quick)')
    parser.add_argument('--seconds', type=positive_int, metavar='N', help=(
        'a row that has taken this long has no further timed calls, if it has three (default: 3 without a config, else '
        'no limit)'))
    parser.add_argument('--out', help='also write the numbers to this JSON file')
    parser.add_argument('--commit', help='commit to write to --out, where git does not know it (default: of git)')
    parser.add_argument('--plot', help='also write a plot to this PNG file: of a config, frames per second against '
                                       'batch and size; else how cost grows with frames, objects, size and GPUs')
    parser.add_argument('--launcher', default='none', help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.records = [name for name in args.inputs if name.endswith('.json')]
    if len(args.inputs) > 1 and args.records != args.inputs:
        parser.error(f'{" ".join(args.inputs)}: give one config, or files of --out')
    if args.records and not (args.against or args.plot):
        parser.error(f'{args.records[0]} is compared or plotted: give --against OLD.json or --plot PLOT.png; to '
                     'measure, give a config or nothing')
    args.config = args.inputs[0] if args.inputs and not args.records else None
    args.warmup = args.warmup or (1 if args.quick else 5)
    args.repeats = args.repeats or (2 if args.quick else 20)
    args.seconds = args.seconds or (math.inf if args.config else 3.0)
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


def compare(new: dict, old_path: str, any_hardware: bool) -> None:
    """Print the comparison of a record with an earlier file."""
    from tools.analysis_tools.measures import comparison

    old = comparison.read_record(old_path)
    if not any_hardware:
        comparison.check_same_machine(new, old, old_path)
    print(comparison.comparison_table(new, old))


def measure_model(bench: Bench, args: argparse.Namespace) -> None:
    """Measure what the flags name, for one config."""
    from mmdet.apis import load_config
    from tools.analysis_tools.measures.speed import bench_loading, bench_stages, bench_test, bench_train

    cfg = load_config(args.config)
    for size in args.size:
        for chosen, run in ((args.test, bench_test), (args.stages, bench_stages), (args.train, bench_train)):
            if chosen:
                run(bench, cfg, args, size)
    if args.loading:
        bench_loading(bench, cfg, args)


def main(argv: Sequence[str] | None) -> int:
    args = parse_args(argv)
    for flag in ('out', 'plot'):
        if path := getattr(args, flag):
            check_writable(path, f'--{flag} {path}')
    if args.records:
        from tools.analysis_tools.measures.comparison import read_records
        from tools.analysis_tools.measures.growth_plot import plot_growth
        record = read_records(args.records, args.any_hardware)
        if args.against:
            compare(record, args.against, args.any_hardware)
        if args.plot:
            plot_growth(record['rows'], record['hardware'], args.plot)
        return 0
    if args.config is None and args.gpus is not None and args.gpus > 1:
        raise UserError(f'--gpus {args.gpus} needs a config; without one, the path gpus measures all numbers of GPUs')
    status = start_processes(args.gpus, args.launcher, sys.argv)
    if status is not None:
        return status
    keep_freed_memory()  # as train.py and test_video.py, which are measured
    import torch
    from mmengine.device import get_device
    from mmengine.dist import get_rank

    from mmdet.engine import init_processes, leave_processes
    from tools.analysis_tools.measures import hardware
    from tools.analysis_tools.measures.comparison import check_same_machine, read_record, write_record
    from tools.analysis_tools.measures.speed import Bench

    if args.launcher != 'none':
        init_processes(args.launcher)
    cuda = get_device() == 'cuda' and not args.quick
    device = torch.device('cuda', torch.cuda.current_device()) if cuda else torch.device('cpu')
    record = dict(config=args.config, hardware=hardware.hardware(device), machine=hardware.machine(device),
                  versions=hardware.versions(), commit=args.commit or hardware.commit())
    if args.against and not args.any_hardware:
        check_same_machine(record, read_record(args.against), args.against)  # before anything is measured
    if get_rank() == 0:
        print(f'{args.config or "every path"}: {record["hardware"]}\n', flush=True)
    failed: dict[str, str] = {}
    if args.config:
        bench = Bench(device, args.warmup, args.repeats, args.original, seconds=args.seconds)
        measure_model(bench, args)
        rank = get_rank()
        leave_processes()
        if rank:
            return 0
        record['rows'] = bench.rows
        if args.out:
            write_record(args.out, record)
    else:
        from tools.analysis_tools.measures.suite import CPU, GPU, QUICK, Outcome, run_suite
        settings = QUICK if args.quick else GPU if cuda else CPU
        bench = Bench(device, args.warmup, args.repeats, settings.original, settings.train_repeats, args.seconds)

        def save(outcome: Outcome) -> None:
            record.update(asdict(outcome), rows=bench.rows)
            if args.out:
                write_record(args.out, record)

        failed = run_suite(bench, settings, args.paths, save).failed
    print(bench.table())
    for path, reason in failed.items():
        print(f'{path} failed: {reason}')
    if args.plot and args.config:
        plot(bench.rows, args.plot)
    elif args.plot:
        from tools.analysis_tools.measures.growth_plot import plot_growth
        plot_growth(bench.rows, record['hardware'], args.plot)
    if args.against:
        print()
        compare(record, args.against, args.any_hardware)
    return 1 if failed else 0


if __name__ == '__main__':
    run_command(main)
