#!/usr/bin/env python
"""Measure the cost of long videos and large test sets: benchmark_load.py tracker|testset|scoring; see --help."""
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdet.apis.cli import CommandParser, positive_int, run_command

LENGTH = 100  # number of frames in a video of the test set


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/analysis_tools/benchmark_load.py', description=(
        'Measures the time of association, the memory and time of testing, and the time of evaluation for long videos '
        'and large test sets. Needs no GPU and no data.'))
    parser.add_argument('what', choices=('tracker', 'testset', 'scoring'),
                        help='association, a test without a network, or evaluation of results')
    parser.add_argument('--frames', type=positive_int, metavar='N',
                        help=f'number of frames (default: tracker 5000; testset 100000, in videos of {LENGTH})')
    parser.add_argument('--objects', type=positive_int, default=300, metavar='N',
                        help='tracker: number of objects in the video (default: 300)')
    parser.add_argument('--at_once', type=positive_int, default=100, metavar='N',
                        help='tracker: average number of visible objects in a frame (default: 100)')
    parser.add_argument('--max_tracks', type=positive_int, default=500, metavar='N',
                        help='tracker: maximum number of tracks (default: 500)')
    parser.add_argument('--in_video', type=positive_int, default=5, metavar='N',
                        help='scoring: number of categories in a video, of 25 (default: 5)')
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    from mmdet.errors import UserError
    from tools.analysis_tools.measures.load import measure_scoring, measure_test_set, measure_tracker

    if args.what == 'tracker':
        numbers = measure_tracker(args.frames or 5000, args.objects, args.at_once, args.max_tracks)
    elif args.what == 'testset':
        frames = args.frames or 100_000
        if frames < LENGTH:
            raise UserError(f'--frames {frames}: a test set has at least one video of {LENGTH} frames')
        numbers = measure_test_set(frames, LENGTH)
    else:
        numbers = measure_scoring(in_video=args.in_video)
    for name, value in numbers.items():
        print(f'{name:<32}{value:>12.2f}')
    return 0


if __name__ == '__main__':
    run_command(main)
