#!/usr/bin/env python
"""Convert COCO images to videos of one frame: coco2yvis.py COCO.json --target yvis2019 --out FILE.json; see --help."""
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdet.apis.cli import CommandParser, existing_file, output_file, run_command


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/dataset_converters/coco2yvis.py', description=(
        'Converts COCO annotations of images to YouTube-VIS JSON with the categories of a video data set. The data set '
        'COCOVIS reads the converted file faster than the original.'))
    parser.add_argument('coco', type=existing_file, help='COCO annotation file, for example instances_train2017.json')
    parser.add_argument('--target', choices=('yvis2019', 'yvis2021', 'ovis'),
                        help="video data set whose categories are used (default: the file's own categories)")
    parser.add_argument('--out', type=output_file, required=True, metavar='FILE.json', help='annotation file to write')
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    from mmdet.datasets.coco_file import check_coco
    from mmdet.datasets.converters.coco_images import coco_images_to_vis
    from mmdet.files import load_json

    file = coco_images_to_vis(check_coco(load_json(args.coco), args.coco), args.target)
    file.save(args.out)
    print(file.report(args.out))
    return 0


if __name__ == '__main__':
    run_command(main)
