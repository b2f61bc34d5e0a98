#!/usr/bin/env python
"""Analyse the errors of a result: python tools/analysis_tools/error_analysis.py RESULT.json ANNOTATIONS.json."""
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdet.apis.cli import CommandParser, existing_file, output_file, positive_int, run_command


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/analysis_tools/error_analysis.py', description=(
        'Prints how much AP a YouTube-VIS or OVIS result would gain if one kind of error were corrected (classes, '
        'masks, duplicates, missed and false tracks, id switches, late birth and early death), with bootstrap '
        'intervals over the videos, and the calibration of scores and box uncertainties. See docs/error_analysis.md '
        'for the definitions.'))
    parser.add_argument('result', type=existing_file, help=(
        'list of results (.json), a .zip with results.json, or OUT.pkl of test_video.py, the only one with box '
        'uncertainties'))
    parser.add_argument('annotations', type=existing_file, help='annotation file with ground truth')
    parser.add_argument('--against', type=existing_file, metavar='OTHER',
                        help='another result for the same videos, in any of these formats: also print OTHER minus '
                             'result, with paired intervals')
    parser.add_boolean('--class_agnostic', 'evaluate all categories as one')
    parser.add_boolean('--common_videos', 'leave out predictions for videos that are not in the annotations')
    parser.add_argument('--resamples', type=positive_int, default=1000, metavar='N',
                        help='number of bootstrap resamples of the videos, up to 20000 (default: 1000)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the resamples (default: 0)')
    parser.add_argument('--out', type=output_file, metavar='ERRORS.json', help='also write the numbers to this file')
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    from mmdet.console import shorten_console
    from mmdet.errors import UserError, counted
    from mmdet.evaluation.error_analysis import MAX_RESAMPLES, analyse_errors, calibrate_uncertainties
    from mmdet.evaluation.error_analysis.report import analysis_json, format_analysis
    from mmdet.evaluation.functional import read_ground_truth, without_classes
    from mmdet.evaluation.result_files import load_tracks
    from mmdet.files import atomic_open

    shorten_console()
    if args.seed < 0:
        raise UserError(f'--seed {args.seed}: must not be negative')
    if args.resamples > MAX_RESAMPLES:
        raise UserError(f'--resamples {args.resamples}: must be at most {MAX_RESAMPLES}')
    truth = read_ground_truth(args.annotations)
    tracks, frames = load_tracks(args.result, truth, args.common_videos)
    others = load_tracks(args.against, truth, args.common_videos)[0] if args.against else None
    for path, found in ((args.result, tracks), (args.against, others)):
        empty = len(truth.videos.keys() - {track.video_id for track in found or ()})
        if found is not None and empty:  # counted as videos in which nothing was found; perhaps a result for others
            print(f'{path}: has no tracks in {empty} of {counted(len(truth.videos), "video")}')
    uncertainties = calibrate_uncertainties(list(truth.videos.values()), frames, truth.tracks) if frames else None
    if args.class_agnostic:
        agnostic, tracks = without_classes(truth, tracks)
        others = without_classes(truth, others)[1] if others is not None else None
        truth = agnostic
    analysis = analyse_errors(truth, tracks, others, args.resamples, args.seed)
    print(format_analysis(analysis, uncertainties, args.against or ''))
    if args.out:
        with atomic_open(args.out, 'w') as file:
            json.dump(analysis_json(analysis, uncertainties), file, indent=1)
    return 0


if __name__ == '__main__':
    run_command(main)
