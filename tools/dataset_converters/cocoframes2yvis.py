#!/usr/bin/env python
"""Convert COCO annotations of frames to YouTube-VIS JSON: cocoframes2yvis.py COCO.json --out FILE.json; see --help."""
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdet.apis.cli import CommandParser, existing_file, output_file, run_command


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/dataset_converters/cocoframes2yvis.py', description=(
        'Converts COCO JSON to YouTube-VIS JSON. Its images are frames of videos (given by video_id and frame_id, or '
        'by folder and file name; without any, all are one video), and its annotations or their attributes (CVAT) '
        'contain the id of their object (instance_id or track_id). Several annotations of an object in a frame are its '
        'pieces, boxes become rectangles. Category ids and file names do not change.'))
    parser.add_argument('coco', type=existing_file, help='COCO annotation file')
    parser.add_argument('--out', type=output_file, required=True, metavar='FILE.json', help='annotation file to write')
    parser.add_argument('--track_key', metavar='FIELD',
                        help='field of an annotation that contains the id or name of its object')
    parser.add_boolean('--crowds_as_objects', 'convert crowds (iscrowd 1) to objects; CVAT marks painted masks so')
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    from mmdet.datasets.coco_file import check_coco
    from mmdet.datasets.converters.coco_frames import coco_frames_to_vis
    from mmdet.files import load_json

    file = coco_frames_to_vis(check_coco(load_json(args.coco), args.coco), args.track_key,
                              args.crowds_as_objects)
    file.save(args.out)
    print(file.report(args.out))
    return 0


if __name__ == '__main__':
    run_command(main)
