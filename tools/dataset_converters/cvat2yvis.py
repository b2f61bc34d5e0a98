#!/usr/bin/env python
"""Convert "CVAT for video 1.1" to YouTube-VIS JSON: cvat2yvis.py IMAGES FILE.xml --out FILE.json; see --help."""
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdet.apis.cli import CommandParser, existing_file, output_file, run_command


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/dataset_converters/cvat2yvis.py', description=(
        'Converts XML files of the format "CVAT for video 1.1", of tasks, jobs or projects, to YouTube-VIS JSON. '
        'Boxes, polygons, ellipses and masks are interpolated between keyframes; tracks of one label and group are the '
        'pieces of one object. CVAT\'s COCO export is converted by cocoframes2yvis.py.'))
    parser.add_argument('images', type=Path, help='folder with IMAGES/<video>/<frame>.jpg, where <video> is the name '
                        'of the XML file or of the task; or, for one video, the folder of its frames')
    parser.add_argument('annotations', type=existing_file, nargs='+', metavar='FILE.xml',
                        help='annotations.xml of CVAT')
    parser.add_argument('--out', type=output_file, required=True, metavar='FILE.json', help='annotation file to write')
    parser.add_argument('--categories', type=existing_file, metavar='FILE.txt',
                        help='names of all categories, one on each line, for the same category ids in several files')
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    from mmdet.datasets.converters.cvat_video import cvat_to_vis
    from mmdet.datasets.vis_file import load_category_names

    names = load_category_names(args.categories) if args.categories else None
    file = cvat_to_vis([Path(path) for path in args.annotations], args.images, names)
    file.save(args.out)
    print(file.report(args.out))
    return 0


if __name__ == '__main__':
    run_command(main)
