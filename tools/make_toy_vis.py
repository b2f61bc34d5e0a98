#!/usr/bin/env python
"""Makes a toy data set for video instance segmentation: python tools/make_toy_vis.py OUT [--easy ...]."""
import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmdet.errors import UserError
from mmdet.testing.toy_vis import ToyVIS, make_toy_vis


def parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition('x')
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f'{text!r} is not WIDTHxHEIGHT, such as 320x192')
    return int(width), int(height)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('out', help='folder to write')
    parser.add_argument('--videos', type=int, default=ToyVIS.videos, help='training videos')
    parser.add_argument('--val-videos', type=int, default=ToyVIS.val_videos, help='validation videos')
    parser.add_argument('--frames', type=int, default=ToyVIS.frames, help='frames of each video')
    parser.add_argument('--size', type=parse_size, default=ToyVIS.size, help='WIDTHxHEIGHT in pixels')
    parser.add_argument('--classes', type=int, default=None, help='shape classes, 1 to 10 (3 with --easy, else 6)')
    parser.add_argument('--seed', type=int, default=ToyVIS.seed)
    parser.add_argument('--format', choices=['yvis', 'ovis'], default=ToyVIS.format)
    parser.add_argument('--first-category-id', type=int, default=ToyVIS.first_category_id)
    parser.add_argument('--workers', type=int, default=os.cpu_count() or 1, help='processes')
    parser.add_argument('--easy', action='store_true', help='solid colours, calm background, 1 to 3 objects')
    return parser.parse_args()


def main() -> None:
    args = vars(parse_args())
    out, workers = args.pop('out'), args.pop('workers')
    args['classes'] = args['classes'] or (3 if args['easy'] else ToyVIS.classes)
    try:
        paths = make_toy_vis(out, ToyVIS(**args), workers)
    except UserError as error:
        sys.exit(f'make_toy_vis.py: {error}')
    for path in paths.values():
        print(path)


if __name__ == '__main__':
    main()
