"""The error analysis of a result: AP, what mending each kind of error would gain, and calibration, with intervals.

Called by tools/analysis_tools/error_analysis.py and the HTML report. docs/error_analysis.md defines every number.
"""
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from mmdet.errors import UserError
from mmdet.evaluation.error_analysis.bootstrap import AveragePrecision, Estimate, estimate, resamples
from mmdet.evaluation.error_analysis.calibration import ScoreCalibration, calibrate_scores
from mmdet.evaluation.error_analysis.oracles import ORACLES, kinds_of_tracks, outcome
from mmdet.evaluation.error_analysis.relations import Relations, relate
from mmdet.evaluation.functional.scored_tracks import GroundTruth
from mmdet.evaluation.functional.video_ap import IOU_THRESHOLDS, MAX_DETECTIONS
from mmdet.structures.vis_json import Track

PROGRESS: dict[str, Any] = dict(delay=2, leave=False)  # shown for large results only
# name: the overlap thresholds that it is the mean over
STATISTICS = {'AP': IOU_THRESHOLDS > 0, 'AP50': np.isclose(IOU_THRESHOLDS, .5), 'AP75': np.isclose(IOU_THRESHOLDS, .75)}


@dataclass
class Gain:
    """One kind of error.

    Attributes:
        changed: tracks (of missed tracks: objects) that mending changes.
        mended: AP after mending. gain: that minus AP.
        against: difference of the other result's gain to this one's; None without another result.
    """

    changed: int
    mended: float
    gain: Estimate
    against: Estimate | None = None


@dataclass
class ErrorAnalysis:
    """Error analysis of a result.

    Attributes:
        videos, objects, tracks: numbers of each. Predicted tracks beyond the 100 of a video and category that count in
            AP are left out; crowds are no objects.
        resamples: of the bootstrap; 0 for a single video, of which there is no interval.
        statistics: AP, AP50, AP75.
        kinds: number of predicted tracks of each kind at overlap threshold .50.
        gains: by the names of ``ORACLES``.
        scores: calibration of the track scores; None where they are no probabilities.
        against: statistics of another result minus this one's, paired; None without one.
    """

    videos: int
    objects: int
    tracks: int
    resamples: int
    statistics: dict[str, Estimate]
    kinds: dict[str, int]
    gains: dict[str, Gain]
    scores: ScoreCalibration | None
    against: dict[str, Estimate] | None = None


def analyse_errors(truth: GroundTruth, predictions: Sequence[Track], against: Sequence[Track] | None = None,
                   count: int = 1000, seed: int = 0) -> ErrorAnalysis:
    """Analyse the masks of a result.

    Args:
        truth: annotations.
        predictions: tracks that :func:`read_predictions` checked.
        against: those of another result for the same annotations.
        count: resamples of the bootstrap over videos. seed: of its random numbers.

    Raises:
        UserError: nothing is annotated, or crowds only.
    """
    if all(track.crowd for track in truth.tracks):
        raise UserError(f'{truth.source}: has no annotations, or only crowds, so nothing can be analysed; give a '
                        'file with ground truth')
    count = count if len(truth.videos) > 1 else 0  # all resamples of one video are equal
    weights = resamples(len(truth.videos), count, seed)
    videos = relate_videos(truth, predictions)
    originals = [outcome(video) for video in videos]
    average_precision = AveragePrecision(weights, originals)
    before = average_precision(originals)
    other = relate_videos(truth, against) if against is not None else None
    other_before = average_precision([outcome(video) for video in other]) if other is not None else None

    gains = {}
    for name, mends in tqdm(ORACLES.items(), unit=' oracles', **PROGRESS):
        mended = [outcome(video, mends) for video in videos]
        change = (average_precision(mended) - before).mean(1)
        difference = None
        if other is not None and other_before is not None:
            other_change = (average_precision([outcome(video, mends) for video in other]) - other_before).mean(1)
            difference = estimate(other_change - change)
        gains[name] = Gain(sum(result.changed for result in mended), float(before[0].mean() + change[0]),
                           estimate(change), difference)
    kinds: Counter[str] = Counter()
    for video in videos:
        kinds.update(kinds_of_tracks(video))
    matched, counted, scores = (np.concatenate(parts) for parts in (
        [result.true[0] for result in originals], [(result.true | result.false)[0] for result in originals],
        [result.scores for result in originals]))
    return ErrorAnalysis(
        videos=len(videos), objects=sum(not track.crowd for track in truth.tracks),
        tracks=sum(len(video.scores) for video in videos), resamples=count, statistics=_statistics(before),
        kinds=dict(kinds), gains=gains, scores=calibrate_scores(scores[counted], matched[counted]),
        against=None if other_before is None else _statistics(other_before - before))


def relate_videos(truth: GroundTruth, predictions: Sequence[Track]) -> list[Relations]:
    """Compare the tracks of each video with its annotations, in ascending order of video id."""
    objects, found = _by_video(truth.tracks), _by_video(predictions)
    return [relate(_counting(found[key]), objects[key], truth.videos[key].length)
            for key in tqdm(sorted(truth.videos), unit=' videos', **PROGRESS)]


def _by_video(tracks: Sequence[Track]) -> dict[int, list[Track]]:
    groups: dict[int, list[Track]] = defaultdict(list)
    for track in tracks:
        groups[track.video_id].append(track)
    return groups


def _counting(tracks: list[Track]) -> list[Track]:
    """Select the tracks of a video that count in AP: the 100 best of each category, in descending order of score."""
    taken: Counter[int] = Counter()
    kept = []
    for track in sorted(tracks, key=lambda track: -track.score):
        taken[track.category_id] += 1
        if taken[track.category_id] <= MAX_DETECTIONS[-1]:
            kept.append(track)
    return kept


def _statistics(values: np.ndarray) -> dict[str, Estimate]:
    """Estimates of (B, S) numbers."""
    return {name: estimate(values[:, places].mean(1)) for name, places in STATISTICS.items()}
