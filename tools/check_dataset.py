#!/usr/bin/env python
"""List every fault of a data set: python tools/check_dataset.py ANNOTATIONS.json [--images DIR] [--decode]."""
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmdet.apis.cli import CommandParser, existing_file, positive_int, run_command


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/check_dataset.py', description=(
        'Lists every fault of a YouTube-VIS annotation file and its images: ids, sizes, masks, boxes, missing frames, '
        'objects annotated twice. Status 0: none, 1: some, 2: the file cannot be read at all.'))
    parser.add_argument('annotations', type=existing_file, help='annotation file')
    parser.add_argument('--images', type=Path, metavar='DIR',
                        help='folder that file_names start from (default: unchecked)')
    parser.add_boolean('--decode', help='read whole images, to find those that are cut off')
    parser.add_argument('--overlap', type=float, default=.9, metavar='IOU',
                        help='masks of two objects in a video more alike than this are a fault (default: 0.9)')
    parser.add_argument('--workers', type=positive_int, default=4, help='threads that read images (default: 4)')
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    from tqdm import tqdm
    from tqdm.contrib.concurrent import thread_map

    from mmdet.datasets.checks import check_annotations, check_images
    from mmdet.errors import UserError
    from mmdet.files import load_json

    if not 0 < args.overlap <= 1:
        raise UserError(f'--overlap {args.overlap} must lie above 0 and be at most 1')
    if args.decode and not args.images:
        raise UserError('--decode reads images: give their folder with --images')
    data = load_json(args.annotations)
    for key in ('videos', 'categories'):
        if not isinstance(data, dict) or not isinstance(data.get(key), list) or not data[key]:
            raise UserError(f'{args.annotations} is not YouTube-VIS JSON: it needs a non-empty list {key!r}')
    if not isinstance(data.get('annotations') or [], list):
        raise UserError(f'{args.annotations} is not YouTube-VIS JSON: annotations must be a list')
    if args.images and not args.images.is_dir():
        raise UserError(f'{args.images} is no folder; give the one that file_names start from')
    faults = 0
    for fault in tqdm(check_annotations(data, args.overlap), desc='annotations', unit=' faults'):
        tqdm.write(f'{args.annotations}: {fault}')
        faults += 1
    if args.images:
        check = partial(check_images, folder=args.images, decode=args.decode)
        videos = [video for video in data['videos'] if isinstance(video, dict)]
        for video_faults in thread_map(check, videos, max_workers=args.workers, desc='images', unit=' videos'):
            for fault in video_faults:
                print(f'{args.annotations}: {fault}')
            faults += len(video_faults)
    print(f'{args.annotations}: {faults or "no"} faults in {len(data["videos"])} videos, '
          f'{len(data.get("annotations") or [])} objects, {len(data["categories"])} categories'
          + ('' if args.images else '; images not checked (--images DIR)'))
    return 1 if faults else 0


if __name__ == '__main__':
    run_command(main)
