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
        'objects annotated twice. The exit status is 0 without faults, 1 with faults, 2 if the file cannot be read.'))
    parser.add_argument('annotations', type=existing_file, help='annotation file')
    parser.add_argument('--images', type=Path, metavar='DIR',
                        help='folder to which file_names are relative (default: images are not checked)')
    parser.add_boolean('--decode', help='decode the images, to find truncated and damaged files')
    parser.add_argument('--overlap', type=float, default=.9, metavar='IOU',
                        help='report two objects of a video whose masks have a higher IoU than this (default: 0.9)')
    parser.add_argument('--workers', type=positive_int, default=4,
                        help='number of processes that read images (default: 4)')
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    from concurrent.futures import ProcessPoolExecutor

    import cv2
    from tqdm import tqdm

    from mmdet.datasets.checks import check_annotations
    from mmdet.datasets.image_checks import DecoderLog, check_images, summarise
    from mmdet.errors import UserError, counted
    from mmdet.files import load_json
    from mmdet.structures.vis_json import Video, check_outline, read_annotation_entries

    cv2.setNumThreads(0)  # OpenCV's threads are not copied to the forked processes that decode images
    if not 0 < args.overlap <= 1:
        raise UserError(f'--overlap {args.overlap} must lie above 0 and be at most 1')
    if args.decode and not args.images:
        raise UserError('--decode reads images: give their folder with --images')
    data = load_json(args.annotations)
    check_outline(data, args.annotations)
    if args.images and not args.images.is_dir():
        raise UserError(f'{args.images} is not a folder; give the one to which file_names are relative')
    faults = 0
    for fault in tqdm(check_annotations(data, args.overlap), desc='annotations', unit=' faults'):
        tqdm.write(f'{args.annotations}: {fault}')
        faults += 1
    if args.images:
        videos = [entry for entry, _ in read_annotation_entries(data, tracks=False) if isinstance(entry, Video)]
        check = partial(check_images, folder=args.images, decode=args.decode)
        with ProcessPoolExecutor(args.workers, initializer=DecoderLog.start) as pool:
            found = list(tqdm(pool.map(check, videos), total=len(videos), desc='images', unit=' videos'))
        for fault in summarise(videos, found, args.images):
            print(f'{args.annotations}: {fault}')
            faults += 1
    print(f'{args.annotations}: {counted(faults, "fault") if faults else "no faults"} in '
          f'{counted(len(data["videos"]), "video")}, {counted(len(data.get("annotations") or []), "object")}, '
          f'{counted(len(data["categories"]), "category")}'
          + ('' if args.images else '; images not checked (--images DIR)'))
    return 1 if faults else 0


if __name__ == '__main__':
    run_command(main)
