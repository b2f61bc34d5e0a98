#!/usr/bin/env python
"""Convert DAVIS-style mask folders to YouTube-VIS JSON: masks2yvis.py IMAGES MASKS --out FILE.json; see --help."""
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdet.apis.cli import CommandParser, existing_file, output_file, positive_int, run_command


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/dataset_converters/masks2yvis.py', description=(
        'Converts index masks to YouTube-VIS JSON: MASKS/<video>/<frame>.png, whose pixel values are the numbers of '
        'the objects. Frames are in natural order (9 before 10); images without a mask and hidden files are left out.'))
    parser.add_argument('images', type=Path, help='folder with IMAGES/<video>/<frame>.jpg (DAVIS: JPEGImages/480p)')
    parser.add_argument('masks', type=Path, help='folder with MASKS/<video>/<frame>.png (DAVIS: Annotations/480p)')
    parser.add_argument('--out', type=output_file, required=True, metavar='FILE.json', help='annotation file to write')
    source = parser.add_mutually_exclusive_group()
    source.add_argument('--category', default='object', help='category of all objects (default: object)')
    source.add_argument('--meta', type=Path, metavar='META.json', help=(
        'meta.json of YouTube-VOS: videos.<video>.objects.<number>.category; or a folder with <video>/meta.json, as '
        'results are written'))
    parser.add_argument('--categories', type=existing_file, metavar='FILE.txt',
                        help='names of all categories, one on each line, for the same category ids in several files')
    parser.add_argument('--ignore', type=int, metavar='NUMBER', help='pixel value to ignore in the masks, often 255')
    parser.add_argument('--workers', type=positive_int, default=4, help='number of threads (default: 4)')
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    from tqdm.contrib.concurrent import thread_map

    from mmdet.datasets.converters.mask_folders import build_file, categories_from_meta, find_videos, read_video
    from mmdet.datasets.vis_file import load_category_names

    names = load_category_names(args.categories) if args.categories else None
    category_of = categories_from_meta(args.meta) if args.meta else lambda *_: args.category
    folders = find_videos(args.images, args.masks)
    videos = thread_map(partial(read_video, ignore=args.ignore), folders, max_workers=args.workers, unit='videos')
    file = build_file(videos, category_of, names)
    file.save(args.out)
    print(file.report(args.out))
    return 0


if __name__ == '__main__':
    run_command(main)
