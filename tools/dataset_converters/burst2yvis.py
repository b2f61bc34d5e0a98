#!/usr/bin/env python
"""Convert annotations of BURST to YouTube-VIS JSON: burst2yvis.py BURST.json --out FILE.json; see --help."""
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdet.apis.cli import CommandParser, existing_file, output_file, run_command


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/dataset_converters/burst2yvis.py', description=(
        'Converts annotations of BURST to YouTube-VIS JSON, with the annotated frames only. Category ids do not '
        'change; the file names are <dataset>/<sequence>/<image>.'))
    parser.add_argument('annotations', type=existing_file, metavar='BURST.json', help='for example train/train.json')
    parser.add_argument('--out', type=output_file, required=True, metavar='FILE.json', help='annotation file to write')
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    from mmdet.datasets.converters.burst import burst_to_vis
    from mmdet.files import load_json

    file = burst_to_vis(load_json(args.annotations), args.annotations)
    file.save(args.out)
    print(file.report(args.out))
    return 0


if __name__ == '__main__':
    run_command(main)
