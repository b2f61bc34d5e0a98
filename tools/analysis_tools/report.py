#!/usr/bin/env python
"""Write an HTML report of a test: python tools/analysis_tools/report.py RESULT.json ANNOTATIONS.json --out DIR."""
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdet.apis.cli import CommandParser, existing_file, run_command


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/analysis_tools/report.py', description=(
        'Scores a YouTube-VIS or OVIS result and writes DIR/index.html: AP tables, AP by category, size and occlusion, '
        'precision and recall, error analysis, training curves, and videos with annotations and predictions side by '
        'side. The page is self-contained.'))
    parser.add_argument('result', type=existing_file, help=(
        'list of results (.json), a .zip with results.json, or OUT.pkl of test_video.py, the only one with box '
        'uncertainties'))
    parser.add_argument('annotations', type=existing_file, help='annotation file with ground truth')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder for index.html')
    parser.add_argument('--images', metavar='DIR',
                        help='folder to which the file_names of the annotations are relative (default: masks on grey)')
    parser.add_argument('--log', metavar='PATH',
                        help='work_dir of the training, or its scalars.json (default: no curves)')
    parser.add_argument('--title', default='Test report', help='title of the page (default: Test report)')
    parser.add_argument('--thresh', type=float, default=0.5, help='draw tracks with a score above this (default: 0.5)')
    parser.add_boolean('--class_agnostic', 'evaluate all categories as one')
    parser.add_boolean('--common_videos', 'leave out predictions for videos that are not in the annotations')
    parser.add_argument('--gallery', type=int, default=24, metavar='N',
                        help='maximum number of videos in the gallery (default: 24)')
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    from mmdet.apis import write_report
    from mmdet.console import shorten_console

    shorten_console()
    print(write_report(args.annotations, args.result, args.out, images=args.images, log=args.log, title=args.title,
                       thresh=args.thresh, gallery=args.gallery, common_videos=args.common_videos,
                       class_agnostic=args.class_agnostic))
    return 0


if __name__ == '__main__':
    run_command(main)
