"""An error analysis as text and as JSON."""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from mmdet.errors import counted
from mmdet.evaluation.error_analysis.analysis import ErrorAnalysis
from mmdet.evaluation.error_analysis.bootstrap import Estimate
from mmdet.evaluation.error_analysis.calibration import ScoreCalibration, UncertaintyCalibration
from mmdet.evaluation.error_analysis.oracles import SPLIT_OF_SWITCHES
from mmdet.evaluation.tables import align


def format_analysis(analysis: ErrorAnalysis, uncertainties: UncertaintyCalibration | None = None,
                    against: str = 'the other result') -> str:
    """The tables, in percent; intervals are of 95 %.

    Args:
        analysis: what to show. uncertainties: of its boxes.
        against: what to call the result that it was compared with.
    """
    kinds = ', '.join(f'{count} {name}' for name, count in analysis.kinds.items() if count)
    compared = analysis.against is not None
    header = ('corrected', 'changed', 'AP', 'gain', 'interval')
    rows = [('  ' + name if name in SPLIT_OF_SWITCHES else name, str(gain.changed), _percent(gain.mended),
             _signed(gain.gain.value), _interval(gain.gain, _signed),
             *((_signed(gain.against.value), _interval(gain.against, _signed)) if gain.against else ()))
            for name, gain in analysis.gains.items()]
    blocks = [
        f'{counted(analysis.videos, "video")}, {counted(analysis.objects, "object")}, '
        f'{counted(analysis.tracks, "track")}; {counted(analysis.resamples, "resample")} of the videos',
        align([('', '%', 'interval'), *((name, _percent(number.value), _interval(number))
                                        for name, number in analysis.statistics.items())]),
        f'Tracks at IoU .50: {kinds or "none"}',
        'AP if only one kind of error were corrected (%)\n'
        + align([header + (('difference of gains', 'interval') if compared else ()), *rows])]
    if analysis.against is not None:
        blocks.append(f'{against} minus this result, the same resampled videos (%)\n' + align(
            [('', 'difference', 'interval'), *((name, _signed(number.value), _interval(number, _signed))
                                               for name, number in analysis.against.items())]))
    blocks.append(_scores(analysis.scores))
    if uncertainties is not None:
        blocks.append(_uncertainties(uncertainties))
    return '\n\n'.join(blocks)


def analysis_json(analysis: ErrorAnalysis, uncertainties: UncertaintyCalibration | None = None) -> dict:
    """The fields of the analysis as JSON holds them; null where a number is not defined or infinite."""
    content = asdict(analysis) | dict(uncertainties=None if uncertainties is None else asdict(uncertainties))
    return _plain(content)


def _scores(scores: ScoreCalibration | None) -> str:
    if scores is None:
        return 'Track scores: not between 0 and 1, or no tracks; their calibration is not defined'
    rows = [(f'{low / 10:.1f} to {(low + 1) / 10:.1f}', str(count), _percent(mean), _percent(precision))
            for low, (count, mean, precision) in enumerate(zip(scores.counts, scores.mean_scores, scores.precisions))
            if count]
    return (f'Track scores as probabilities of a match at IoU .50: expected calibration error '
            f'{_percent(scores.error)} %, Brier score {scores.brier:.3f}\n'
            + align([('score', 'tracks', 'mean score', 'matched'), *rows]))


def _uncertainties(found: UncertaintyCalibration) -> str:
    rows = [(_percent(nominal), _percent(observed)) for nominal, observed in zip(found.nominal, found.observed)]
    rank = '-' if math.isnan(found.rank_correlation) else f'{found.rank_correlation:.2f}'
    return (f'Box uncertainties as standard deviations, {counted(found.boxes, "box")}: mean '
            f'{_percent(found.mean_sigma)} % of the image; root mean square of the errors '
            f'{_percent(found.rms_error)} %, of error / uncertainty {found.rms_z:.2f} (calibrated: 1); '
            f'rank correlation with 1 - IoU {rank}; calibration error {_percent(found.error)} %\n'
            + align([('central interval', 'errors inside'), *rows], left=0))


def _percent(value: float) -> str:
    return '-' if math.isnan(value) else f'{100 * value:.1f}'


def _signed(value: float) -> str:
    return '-' if math.isnan(value) else f'{round(100 * value, 1) + 0:+.1f}'  # + 0: no -0.0


def _interval(number: Estimate, form: Callable[[float], str] = _percent) -> str:
    return '-' if math.isnan(number.low) else f'{form(number.low)} to {form(number.high)}'


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
