#!/usr/bin/env python
"""Write a result as masks, MOT, MOTS or JSON lines: tools/export_result.py RESULT ANNOTATIONS.json --out DIR."""
import sys
from argparse import ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmdet.apis.cli import CommandParser, existing_file, run_command, unique_mapping
from mmdet.video.video_options import RESULT_FORMATS


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/export_result.py', description=(
        'Writes a YouTube-VIS or OVIS result in other formats, by video: DIR/masks/<video>/<frame>.png, the index '
        'masks that masks2yvis.py reads; DIR/mot/<video>.txt; DIR/mots/<video>.txt; DIR/jsonl/<video>.jsonl. '
        'Numbers of objects are counted from 1.'))
    parser.add_argument('result', type=existing_file, help=(
        'list of results (.json), a .zip with results.json, or OUT.pkl of test_video.py, the only one with scores by '
        'frame'))
    parser.add_argument('annotations', type=existing_file,
                        help='annotation file of the same videos; it needs no annotations')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='output folder')
    parser.add_argument('--formats', nargs='+', choices=RESULT_FORMATS, default=['masks'],
                        help='what to write (default: masks)')
    parser.add_argument('--thresh', type=float, default=0.5,
                        help='write objects with a score above this (default: 0.5)')
    parser.add_argument('--fps', type=float, help='frames per second, for the times of jsonl (default: no times)')
    parser.add_argument('--mots_classes', nargs='+', type=_mots_class, metavar='NAME=CLASS',
                        help='classes of mots, such as car=1 person=2, without which category ids are used; objects of '
                        'other categories are left out')
    parser.add_boolean('--common_videos', 'leave out tracks of videos that are not in the annotation file')
    return parser


def _mots_class(text: str) -> tuple[str, int]:
    name, separator, number = text.rpartition('=')
    if not separator or not name or not number.isdecimal():
        raise ArgumentTypeError(f'{text!r} is not NAME=CLASS, such as person=2')
    return name, int(number)


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    from mmdet.apis.exporting import export_result
    from mmdet.console import shorten_console

    shorten_console()
    out = args.out.expanduser()
    folders = export_result(args.annotations, args.result, args.formats, lambda kind: out / kind, thresh=args.thresh,
                            fps=args.fps, mots_classes=unique_mapping('--mots-classes', args.mots_classes)
                            if args.mots_classes else None,
                            common_videos=args.common_videos)
    print(*folders, sep='\n')
    return 0


if __name__ == '__main__':
    run_command(main)
