#!/usr/bin/env python
"""Analyse the reads of a MemCNP memory: python tools/analysis_tools/memory_report.py CONFIG CHECKPOINT --out DIR."""
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdet.apis.cli import CommandParser, checkpoint_source, config_file, positive_int, run_command


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/analysis_tools/memory_report.py', description=(
        'Runs the model on frames of its test set and prints how many units of the memory are used, how many units a '
        'location reads (the perplexity of its weights), and the variation of the contexts over a frame relative to '
        'that of the features. Writes memory.json, units.png and maps.png. See docs/memory_report.md for the '
        'definitions.'))
    parser.add_argument('config', type=config_file, help='config of a MemCNP model')
    parser.add_argument('checkpoint', type=checkpoint_source, help='trained weights')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='output folder')
    parser.add_argument('--frames', type=positive_int, default=32, metavar='N',
                        help='number of frames, evenly spaced over the test set (default: 32)')
    parser.add_argument('--maps', type=positive_int, default=4, metavar='N',
                        help='number of these frames shown in maps.png (default: 4)')
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: a GPU if there is one)')
    parser.add_config_options()
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    from mmdet.apis.config import load_config
    from mmdet.apis.memory_report import report_memory, write_memory_report
    from mmdet.errors import counted
    from mmdet.evaluation.tables import align
    from mmdet.files import check_writable

    out = args.out.expanduser()
    check_writable(out / 'memory.json', f'--out {args.out}')
    report = report_memory(load_config(args.config, args.cfg_options), args.checkpoint, args.frames, args.maps,
                           args.device)
    summaries = [level.summary() for level in report.reads.levels]
    each = ' for each level' if len(report.norms) > 1 else ''
    print(f'{counted(report.units, "unit")}{each}, {counted(report.reads.levels[0].images, "frame")}; lengths of the '
          f'units\' feature parts {report.norms.min():.3g} to {report.norms.max():.3g}')
    rows = [(name.replace('_', ' '), *(f'{summary[name]:.4g}' for summary in summaries)) for name in summaries[0]]
    if each:
        rows += [(f'{name} unit length', *(f'{value:.3g}' for value in values))
                 for name, values in (('smallest', report.norms.min(axis=1)), ('largest', report.norms.max(axis=1)))]
    print(align([('', *(f'stride {stride}' for stride in report.strides)), *rows]))
    print('Written:', *write_memory_report(report, out))
    return 0


if __name__ == '__main__':
    run_command(main)
