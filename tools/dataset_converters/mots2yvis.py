#!/usr/bin/env python
"""Convert MOTS (KITTI MOTS, MOTSChallenge) to YouTube-VIS JSON: mots2yvis.py IMAGES MASKS --out FILE.json."""
import sys
from argparse import ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdet.apis.cli import CommandParser, output_file, positive_int, run_command, unique_mapping


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/dataset_converters/mots2yvis.py', description=(
        'Converts annotations of MOTS to YouTube-VIS JSON: PNG masks of 16 bits, MASKS/<video>/<frame>.png, or text '
        'files, MASKS/<video>.txt or MASKS/<video>/gt/gt.txt. The number of an object is class * 1000 + id; 10000 is '
        'left out.'))
    parser.add_argument('images', type=Path,
                        help='folder with IMAGES/<video>/<frame>.png or IMAGES/<video>/img1/<frame>.jpg')
    parser.add_argument('masks', type=Path, help='folder of the PNG masks or text files; may be the same folder')
    parser.add_argument('--out', type=output_file, required=True, metavar='FILE.json', help='annotation file to write')
    parser.add_argument('--classes', nargs='+', type=class_name, default=None, metavar='NUMBER=NAME',
                        help='names of the classes, in the order of the category ids (default: 1=car 2=pedestrian)')
    parser.add_argument('--workers', type=positive_int, default=4, help='number of threads (default: 4)')
    return parser


def class_name(text: str) -> tuple[int, str]:
    """Argument type: NUMBER=NAME."""
    number, separator, name = text.partition('=')
    if not number.isdecimal() or not separator or not name:
        raise ArgumentTypeError(f'{text!r} is not NUMBER=NAME, such as 1=car')
    return int(number), name


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    from tqdm.contrib.concurrent import thread_map

    from mmdet.datasets.converters.mask_folders import MaskVideo, build_file, read_video
    from mmdet.datasets.converters.mots import CLASSES, IGNORED, find_mots, mots_category, read_text_video

    def read(folders: tuple[Path, Path]) -> MaskVideo:
        if folders[1].is_file():
            return read_text_video(*folders, args.images)
        return read_video(folders, ignore=IGNORED, root=args.images)

    names = CLASSES if args.classes is None else unique_mapping('--classes', args.classes)
    videos = thread_map(read, find_mots(args.images, args.masks), max_workers=args.workers, unit='videos')
    file = build_file(videos, mots_category(names), list(dict.fromkeys(names.values())))
    file.save(args.out)
    print(file.report(args.out))
    return 0


if __name__ == '__main__':
    run_command(main)
