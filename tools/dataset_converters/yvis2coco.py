#!/usr/bin/env python
"""Convert frames of videos to COCO images, for FCOS: yvis2coco.py INSTANCES.json --out FILE.json; see --help."""
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdet.apis.cli import CommandParser, existing_file, output_file, run_command


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/dataset_converters/yvis2coco.py', description=(
        'Converts YouTube-VIS or OVIS annotations to COCO JSON with one image for each frame; the inverse of '
        'cocoframes2yvis.py. Crowds are left out.'))
    parser.add_argument('annotations', type=existing_file, help='for example annotations/instances_train.json')
    parser.add_argument('--out', type=output_file, required=True, metavar='FILE.json', help='annotation file to write')
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    from mmdet.datasets.converters.vis_frames import vis_frames_to_coco
    from mmdet.datasets.packed_annotations import read_youtube_vis
    from mmdet.errors import counted
    from mmdet.files import atomic_open

    videos = read_youtube_vis(args.annotations)
    content = vis_frames_to_coco(videos)
    with atomic_open(args.out, 'w') as out:
        json.dump(content, out, separators=(',', ':'))
    if videos.crowds:
        print(f'note: left out: {counted(videos.crowds, "crowd")} (objects with iscrowd 1)')
    images, annotations = content['images'], content['annotations']
    print(f'{args.out}: {counted(len(images), "image")}, {counted(len(annotations), "annotation")}')
    return 0


if __name__ == '__main__':
    run_command(main)
