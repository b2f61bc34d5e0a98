"""The report's section on errors and calibration. Called by :func:`mmdet.apis.write_report`."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from mmdet.errors import counted
from mmdet.evaluation.error_analysis import (
    SPLIT_OF_SWITCHES,
    ErrorAnalysis,
    UncertaintyCalibration,
    analyse_errors,
    calibrate_uncertainties,
)
from mmdet.evaluation.frame_results import FrameResult
from mmdet.evaluation.functional.scored_tracks import GroundTruth
from mmdet.structures.vis_json import Track
from mmdet.visualization.report import Curve, ErrorSection, GainBar, line_chart

DIAGONAL = np.array([[0., 0.], [100., 100.]])  # percent


def error_section(truth: GroundTruth, tracks: Sequence[Track],
                  frames: Sequence[Sequence[FrameResult]] | None) -> ErrorSection:
    """Analyse the errors of a result, see :func:`~mmdet.evaluation.error_analysis.analyse_errors`.

    Args:
        truth: annotations, at least one of which is not a crowd.
        tracks: predictions for them.
        frames: results of each frame of each video, in the order of the annotation file; None if there are none.
    """
    analysis = analyse_errors(truth, tracks)
    uncertainties = calibrate_uncertainties(list(truth.videos.values()), frames, truth.tracks) if frames else None
    found = analysis.statistics['AP']
    kinds = ', '.join(f'{count} {name}' for name, count in analysis.kinds.items() if count)
    interval = (f'95 % interval of AP: {100 * found.low:.1f} to {100 * found.high:.1f}, bootstrap over '
                f'{counted(analysis.videos, "video")}.' if analysis.resamples else 'No intervals: there is one video.')
    return ErrorSection(
        gains=[GainBar(name, gain.gain.value, gain.gain.low, gain.gain.high, f'{gain.changed} changed',
                       part=name in SPLIT_OF_SWITCHES) for name, gain in analysis.gains.items()],
        note=f'{interval} Tracks at IoU .50: {kinds or "none"}.',
        calibration=[*_score_chart(analysis), *_uncertainty_chart(uncertainties)])


def _score_chart(analysis: ErrorAnalysis) -> list[tuple[str, Markup]]:
    scores = analysis.scores
    if scores is None:
        return []
    points = 100 * np.stack([scores.mean_scores, scores.precisions], axis=1)[scores.counts > 0]
    chart = line_chart([Curve('tracks', points), Curve('calibrated', DIAGONAL)], 'score (%)',
                       'matched at IoU .50 (%)', ylim=(0, 100))
    return [(f'Track scores: calibration error {100 * scores.error:.1f} %', chart)]


def _uncertainty_chart(found: UncertaintyCalibration | None) -> list[tuple[str, Markup]]:
    if found is None:
        return []
    points = 100 * np.stack([found.nominal, found.observed], axis=1)
    chart = line_chart([Curve(counted(found.boxes, 'box'), points), Curve('calibrated', DIAGONAL)],
                       'central interval of σ (%)', 'errors inside (%)', ylim=(0, 100))
    rank = '' if np.isnan(found.rank_correlation) else f', rank correlation with 1 − IoU {found.rank_correlation:.2f}'
    return [(f'Box uncertainties: error / σ {found.rms_z:.2f}{rank}', chart)]
