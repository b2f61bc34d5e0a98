#!/usr/bin/env python
"""Convert labelme JSON of frames to YouTube-VIS JSON: labelme2yvis.py IMAGES LABELS --out FILE.json; see --help."""
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdet.apis.cli import CommandParser, existing_file, output_file, run_command


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/dataset_converters/labelme2yvis.py', description=(
        'Converts JSON files of labelme to YouTube-VIS JSON: LABELS/<video>/<frame>.json, in which polygons, '
        'rectangles, circles and masks of one label and one group_id are one object, in one frame its pieces. Frames '
        'are in natural order (9 before 10); images without a JSON file are left out.'))
    parser.add_argument('images', type=Path, help='folder with IMAGES/<video>/<frame>.jpg')
    parser.add_argument('labels', type=Path, help='folder with LABELS/<video>/<frame>.json; may be the same folder')
    parser.add_argument('--out', type=output_file, required=True, metavar='FILE.json', help='annotation file to write')
    parser.add_argument('--categories', type=existing_file, metavar='FILE.txt',
                        help='names of all categories, one on each line, for the same category ids in several files')
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    from mmdet.datasets.converters.labelme_frames import labelme_to_vis
    from mmdet.datasets.vis_file import load_category_names

    names = load_category_names(args.categories) if args.categories else None
    file = labelme_to_vis(args.images, args.labels, names)
    file.save(args.out)
    print(file.report(args.out))
    return 0


if __name__ == '__main__':
    run_command(main)
