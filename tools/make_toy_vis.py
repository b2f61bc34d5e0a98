#!/usr/bin/env python
"""Make toy videos with ground truth: python tools/make_toy_vis.py OUT [--easy ...]; see --help."""
import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmdet.apis.cli import CommandParser, positive_int, run_command


def parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition('x')
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f'{text!r} is not WIDTHxHEIGHT, the width first, such as 320x192')
    return int(width), int(height)


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/make_toy_vis.py', description=(
        'Makes a toy data set for video instance segmentation: moving shapes that occlude each other, in the layout '
        'and format of YouTube-VIS or OVIS.'))
    parser.add_argument('out', help='output folder')
    parser.add_argument('--videos', type=int, default=20, help='number of training videos (default: 20)')
    parser.add_argument('--val_videos', type=int, default=5, help='number of validation videos (default: 5)')
    parser.add_argument('--frames', type=int, default=20, help='number of frames in each video (default: 20)')
    parser.add_argument('--size', type=parse_size, default=(320, 192), metavar='WIDTHxHEIGHT',
                        help='size of the frames: 320x192 is 320 pixels wide and 192 high (default: 320x192)')
    parser.add_argument('--classes', type=int, help='number of classes, 1 to 10 (default: 3 with --easy, else 6)')
    parser.add_argument('--family', choices=('geometric', 'organic'), default='geometric',
                        help='shapes, textures and backgrounds; the families have none in common: geometric, such as '
                             'disc and star, or organic, such as fish and spiral (default: geometric)')
    parser.add_argument('--seed', type=int, default=0, help='seed of all random numbers (default: 0)')
    parser.add_argument('--format', choices=('yvis', 'ovis'), default='yvis',
                        help='format of the annotations and file names (default: yvis)')
    parser.add_argument('--first_category_id', type=int, default=1,
                        help='id of the first category; the others are consecutive (default: 1)')
    parser.add_argument('--workers', type=positive_int, default=os.cpu_count() or 1,
                        help='number of processes (default: one per core)')
    parser.add_boolean('--easy', help='solid colours, plain background, 1 to 3 objects')
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = vars(build_parser().parse_args(argv))
    from mmdet.datasets.toy import ToyVIS, make_toy_vis

    out, workers = args.pop('out'), args.pop('workers')
    if args['classes'] is None:
        args['classes'] = 3 if args['easy'] else 6
    for path in make_toy_vis(out, ToyVIS(**args), workers).values():
        print(path)
    return 0


if __name__ == '__main__':
    run_command(main)
