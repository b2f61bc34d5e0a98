#!/usr/bin/env python
"""Evaluate a YouTube-VIS or OVIS result: python tools/vis_eval.py RESULT.json ANNOTATIONS.json; see --help."""
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmdet.apis.cli import CommandParser, existing_file, output_file, run_command
from mmdet.errors import UserError


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/vis_eval.py', description='Evaluates a YouTube-VIS or OVIS result.')
    parser.add_argument('result', type=existing_file, help='list of results (.json), or a .zip with results.json')
    parser.add_argument('annotations', type=existing_file, help='annotation file with ground truth')
    parser.add_argument('--metric', nargs='+', choices=('segm', 'bbox'), default=['segm'],
                        help='what to evaluate: masks (segm) or boxes (bbox) (default: segm)')
    parser.add_boolean('--class_agnostic', 'evaluate all categories as one: AP and AR regardless of the classes of '
                       'objects and predictions')
    parser.add_boolean('--common_videos', 'leave out predictions for videos that are not in the annotations '
                       '(default: they are an error)')
    parser.add_boolean('--hota', 'also compute HOTA, MOTA and IDF1 with TrackEval (pip install trackeval==1.3.0), of '
                       'masks or, with --metric bbox alone, of boxes')
    parser.add_argument('--hota_thresh', type=float, default=0.0, metavar='SCORE',
                        help='score threshold for --hota; only tracks with a higher score count (default: 0)')
    parser.add_argument('--out', type=output_file, metavar='STATS.json', help='also write the statistics to this file')
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    from mmdet.console import shorten_console
    from mmdet.evaluation.functional import evaluate_vis, load_result_list, of_common_videos, read_ground_truth
    from mmdet.evaluation.tables import format_scores
    from mmdet.files import atomic_open

    shorten_console()
    if not 0 <= args.hota_thresh <= 1:
        raise UserError(f'--hota-thresh {args.hota_thresh}: scores are from 0 to 1; give a number in this range')
    if args.hota:
        from mmdet.evaluation.hota import check_installed
        check_installed()
    need_masks = 'segm' in args.metric
    truth, predictions = read_ground_truth(args.annotations, need_masks=need_masks), load_result_list(args.result)
    numbers: dict[str, dict] = {}
    kind = ', class-agnostic' if args.class_agnostic else ''
    if args.common_videos:
        predictions = of_common_videos(predictions, truth, args.result)
    for metric in args.metric:
        result = evaluate_vis(truth, predictions, metric, source=args.result, class_agnostic=args.class_agnostic)
        print(format_scores(result, f'{metric}{kind}'), end='\n\n')
        numbers[metric] = dict(statistics=result.statistics, per_category_AP=result.per_category)
    if args.hota:
        from mmdet.evaluation.functional import read_predictions, without_classes
        from mmdet.evaluation.hota import evaluate_hota
        metric = 'segm' if need_masks else 'bbox'
        tracks = read_predictions(predictions, truth, metric, source=args.result)
        if args.class_agnostic:
            truth, tracks = without_classes(truth, tracks)
        numbers['hota'] = evaluate_hota(truth, tracks, args.hota_thresh, metric)
        lines = [f'  {name:<5} {100 * value:6.2f}' for name, value in numbers['hota'].items()]
        print(f'HOTA, MOTA and IDF1 of {metric}{kind or ", all categories"} (%)', *lines, sep='\n', end='\n\n')
    if args.out:
        with atomic_open(args.out, 'w') as file:
            json.dump(numbers, file, indent=1)
    return 0


if __name__ == '__main__':
    run_command(main)
