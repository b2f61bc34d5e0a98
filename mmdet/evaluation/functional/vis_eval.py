"""Score video instance segmentation: the 12 YouTube-VIS statistics, the 18 of OVIS, and AP per category.

Called by ``YouTubeVISMetric`` and ``tools/vis_eval.py``; a notebook may call :func:`evaluate_vis` with paths or
loaded JSON. The scores equal those of the official tools (tests/data/golden/vis_eval_*.json).
"""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike, fspath

import numpy as np

from mmdet.errors import UserError
from mmdet.evaluation.functional.overlaps import overlaps
from mmdet.evaluation.functional.scored_tracks import (
    GroundTruth,
    check_repeats,
    read_ground_truth,
    read_predictions,
    without_classes,
)
from mmdet.evaluation.functional.video_ap import (
    IOU_THRESHOLDS,
    MAX_DETECTIONS,
    RECALL_POINTS,
    match_tracks,
    precision_recall,
)
from mmdet.structures.vis_json import Track

METRICS = ('segm', 'bbox')
# mean area of a track in pixels, both bounds inclusive
AREA_RANGES = {'all': (0, 1e10), 'small': (0, 128**2), 'medium': (128**2, 256**2), 'large': (256**2, 1e10)}
# occlusion of an annotated track (predictions have none), both bounds inclusive
OCCLUSION_RANGES = {'slight_occlusion': (0, .25), 'moderate_occlusion': (.25, .5), 'heavy_occlusion': (.5, 1)}
# AP by name: (range, IoU threshold; None: mean over all); AR by name: (range, limit on the number of predictions)
AP_AREA = {'AP': ('all', None), 'AP50': ('all', .5), 'AP75': ('all', .75),
           'APs': ('small', None), 'APm': ('medium', None), 'APl': ('large', None)}
AP_OCCLUSION = {'APso': ('slight_occlusion', None), 'APmo': ('moderate_occlusion', None),
                'APho': ('heavy_occlusion', None)}
AR_AREA = {'AR1': ('all', 1), 'AR10': ('all', 10), 'AR100': ('all', 100), 'ARs': ('small', 100), 'ARm': ('medium', 100),
           'ARl': ('large', 100)}
AR_OCCLUSION = {'ARso': ('slight_occlusion', 100), 'ARmo': ('moderate_occlusion', 100),
                'ARho': ('heavy_occlusion', 100)}


@dataclass
class VISEvalResult:
    """Scores of one result. Undefined scores (no annotation in the range) are -1, as in the official tools.

    Attributes:
        metric: ``'segm'`` or ``'bbox'``.
        statistics: value in [0, 1] by name, in the official order: 12 of YouTube-VIS or 18 of OVIS.
        per_category: AP by category id.
        category_names: name by category id.
        ranges: names along axis A.
        precision: (T, R, K, A, M): threshold .5:.05:.95, recall point 0:.01:1, category by ascending id, range, limit
            1/10/100.
        recall: (T, K, A, M).
    """

    metric: str
    statistics: dict[str, float]
    per_category: dict[int, float]
    category_names: dict[int, str]
    ranges: list[str]
    precision: np.ndarray
    recall: np.ndarray


def evaluate_vis(ground_truth: str | PathLike | dict | GroundTruth, predictions: str | PathLike | list,
                 metric: str = 'segm', source: str | None = None, class_agnostic: bool = False,
                 common_videos: bool = False) -> VISEvalResult:
    """Score a result list.

    Args:
        ground_truth: annotation file, its content, or the result of :func:`read_ground_truth`.
        predictions: result file (JSON or zip), or its content: a list of dicts with ``video_id``, ``category_id``,
            ``score``, ``segmentations`` (and ``bboxes``).
        metric: ``'segm'`` compares masks, ``'bbox'`` boxes (those of the masks if a prediction has none). Annotations
            need only what is compared.
        source: name of the predictions in messages; None: their path.
        class_agnostic: score all categories as one, see :func:`without_classes`.
        common_videos: leave out predictions for videos that are not annotated; otherwise they are an error.

    Raises:
        UserError: a file is damaged, the two do not belong together, or the ground truth has no annotations.
    """
    if metric not in METRICS:
        raise UserError(f'metric {metric!r} is none of {", ".join(METRICS)}')
    truth = ground_truth if isinstance(ground_truth, GroundTruth) else read_ground_truth(
        ground_truth, need_masks=metric == 'segm')
    if not truth.tracks:
        raise UserError(f'{truth.source}: has no annotations, so nothing can be scored; give a file with ground truth')
    if metric == 'bbox' and not truth.has_boxes:
        raise UserError(f'{truth.source}: not all of its annotations have bboxes; score with metric segm')
    if metric == 'segm' and not truth.has_masks:
        raise UserError(f'{truth.source}: not all of its annotations have segmentations; score with metric bbox')
    if source is None:
        source = fspath(predictions) if isinstance(predictions, (str, PathLike)) else 'result'
    tracks = read_predictions(predictions, truth, metric, source, common_videos)
    check_repeats(tracks, source)
    if class_agnostic:
        truth, tracks = without_classes(truth, tracks)
    return score_tracks(truth, tracks, metric)


def score_tracks(truth: GroundTruth, predictions: Sequence[Track], metric: str = 'segm') -> VISEvalResult:
    """Score tracks that have been checked, see :func:`evaluate_vis`."""
    ranges = list(AREA_RANGES) + (list(OCCLUSION_RANGES) if truth.has_occlusion else [])
    categories = sorted(truth.categories)
    shape = (len(IOU_THRESHOLDS), len(RECALL_POINTS), len(categories), len(ranges), len(MAX_DETECTIONS))
    precision, recall = np.full(shape, -1.), np.full(shape[:1] + shape[2:], -1.)
    matched: dict[int, list[tuple]] = defaultdict(list)
    annotated, predicted = _group(truth.tracks), _group(predictions)
    for video_id in sorted({*annotated, *predicted}):
        truths, found = annotated[video_id], {category_id: _best(tracks) for category_id, tracks in
                                              predicted[video_id].items()}
        here = sorted({*truths, *found})
        pairs = [(found.get(category_id, []), truths.get(category_id, [])) for category_id in here]
        for category_id, pair, overlap in zip(here, pairs, overlaps(pairs, metric)):
            matched[category_id].append(_match_video(*pair, overlap, ranges))
    for column, category_id in enumerate(categories):
        _accumulate(matched[category_id], precision[:, :, column], recall[:, column])
    per_category = {category_id: _mean(precision[:, :, column, 0, -1]) for column, category_id in enumerate(categories)}
    names = {category_id: truth.categories[category_id] for category_id in categories}
    return VISEvalResult(metric, _statistics(ranges, precision, recall), per_category, names, ranges, precision, recall)


def _group(tracks: Sequence[Track]) -> dict[int, dict[int, list[Track]]]:
    """Group tracks by video, then by category."""
    groups: dict = defaultdict(lambda: defaultdict(list))
    for track in tracks:
        groups[track.video_id][track.category_id].append(track)
    return groups


def _best(predictions: list[Track]) -> list[Track]:
    """Return the predictions of one video and category that are scored, by descending score."""
    return sorted(predictions, key=lambda track: -track.score)[:MAX_DETECTIONS[-1]]


def _match_video(predictions: list[Track], truths: list[Track], overlap: np.ndarray,
                 ranges: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Match one video and category: scores (D,), matched (A, T, D), ignored (A, T, D), counted annotations (A,)."""
    crowd = np.array([track.crowd for track in truths], bool)
    ignore = np.array([[track.crowd or _outside(track, name) for track in truths] for name in ranges], bool)
    out_of_range = np.array([[name in AREA_RANGES and _outside(track, name) for track in predictions]
                             for name in ranges], bool)
    matched, ignored = match_tracks(overlap, ignore, crowd, out_of_range)
    return np.array([track.score for track in predictions]), matched, ignored, (~ignore).sum(1)


def _outside(track: Track, name: str) -> bool:
    low, high = AREA_RANGES[name] if name in AREA_RANGES else OCCLUSION_RANGES[name]
    value = track.area if name in AREA_RANGES else track.occlusion
    return value is not None and not low <= value <= high


def _accumulate(videos: list[tuple], precision: np.ndarray, recall: np.ndarray) -> None:
    """Fill one category's precision (T, R, A, M) and recall (T, A, M) where it has annotations."""
    positives = sum(video[3] for video in videos)
    for place, limit in enumerate(MAX_DETECTIONS):
        if not np.any(positives):
            return
        scores = np.concatenate([video[0][:limit] for video in videos])
        matched = np.concatenate([video[1][..., :limit] for video in videos], axis=-1)
        ignored = np.concatenate([video[2][..., :limit] for video in videos], axis=-1)
        for index in np.flatnonzero(positives):
            precision[:, :, index, place], recall[:, index, place] = precision_recall(
                scores, matched[index], ignored[index], positives[index])


def _statistics(ranges: list[str], precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    occlusion = len(ranges) > len(AREA_RANGES)
    statistics = {}
    for name, (range_name, threshold) in {**AP_AREA, **(AP_OCCLUSION if occlusion else {})}.items():
        rows = slice(None) if threshold is None else np.isclose(IOU_THRESHOLDS, threshold)
        statistics[name] = _mean(precision[rows, :, :, ranges.index(range_name), -1])
    for name, (range_name, limit) in {**AR_AREA, **(AR_OCCLUSION if occlusion else {})}.items():
        statistics[name] = _mean(recall[:, :, ranges.index(range_name), MAX_DETECTIONS.index(limit)])
    return statistics


def _mean(values: np.ndarray) -> float:
    """Compute the mean of the defined values; -1 if there are none."""
    defined = values[values > -1]
    return float(defined.mean()) if len(defined) else -1.
