"""Average precision from overlaps: greedy matching and precision-recall curves, as plain functions of arrays.

Symbols: D predictions, G annotations of one video and category; A ranges (of area, of occlusion); T overlap
thresholds; R recall points; M limits on the number of predictions per video and category.
"""
from __future__ import annotations

import numpy as np

IOU_THRESHOLDS = np.linspace(.5, .95, 10)
RECALL_POINTS = np.linspace(0, 1, 101)
MAX_DETECTIONS = (1, 10, 100)


def match_tracks(iou: np.ndarray, ignore: np.ndarray, crowd: np.ndarray, out_of_range: np.ndarray,
                 thresholds: np.ndarray = IOU_THRESHOLDS) -> tuple[np.ndarray, np.ndarray]:
    """Determine which predictions match an annotation (:func:`assign_tracks`), and which are ignored.

    A prediction is ignored if it matches an ignored annotation, or if it matches none and is out of range.

    Args:
        iou, ignore, crowd, thresholds: see :func:`assign_tracks`.
        out_of_range: (A, D) bool.

    Returns:
        matched, ignored: (A, T, D) bool.
    """
    assigned = assign_tracks(iou, ignore, crowd, thresholds)
    matched = assigned >= 0
    ignored = ~matched & out_of_range[:, None]
    if ignore.size:
        ignored |= matched & np.take_along_axis(ignore[:, None], assigned, axis=2)  # -1 is not matched
    return matched, ignored


def assign_tracks(iou: np.ndarray, ignore: np.ndarray, crowd: np.ndarray,
                  thresholds: np.ndarray = IOU_THRESHOLDS) -> np.ndarray:
    """Match each prediction, in the order of descending scores, to the unmatched annotation that it overlaps most.

    Annotations that count take precedence over ignored ones, even with a smaller overlap, if it reaches the threshold.
    A crowd can be matched repeatedly. Among equal overlaps, the last annotation is chosen.

    Args:
        iou: (D, G), rows by descending score.
        ignore: (A, G) bool, annotations that do not count in a range (crowds among them).
        crowd: (G,) bool.
        thresholds: (T,).

    Returns:
        (A, T, D) int64, the annotation of each prediction; -1: none.
    """
    ranges, truths = ignore.shape
    assigned = np.full((ranges, len(thresholds), len(iou)), -1)
    if truths:
        limits = np.minimum(thresholds, 1 - 1e-10)[None, :, None]
        free = np.ones((ranges, len(thresholds), truths), bool)
        counts = ~ignore[:, None]
        rows = np.indices((ranges, len(thresholds)))
        for row, overlap in enumerate(iou):
            eligible = free & (overlap >= limits)
            found = eligible.any(-1)  # (A, T)
            choice = np.where((eligible & counts).any(-1, keepdims=True), eligible & counts, eligible)
            best = truths - 1 - np.where(choice, overlap, -1)[..., ::-1].argmax(-1)
            assigned[..., row] = np.where(found, best, -1)
            free[rows[0], rows[1], best] &= ~found | crowd[best]
    return assigned


def precision_recall(scores: np.ndarray, matched: np.ndarray, ignored: np.ndarray,
                     positives: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute the precision-recall curve of one category and range over all videos.

    Args:
        scores: (N,), in the order of the videos and of their predictions, which decides ties.
        matched, ignored: (T, N) bool, from :func:`match_tracks`.
        positives: number of annotations that count, at least 1.

    Returns:
        precision (T, R) at the recall points, made monotonically decreasing; recall (T,) of all predictions.
    """
    order = np.argsort(-scores, kind='stable')
    matched, ignored = matched[:, order], ignored[:, order]
    true = np.cumsum(matched & ~ignored, axis=1, dtype=np.float64)
    false = np.cumsum(~matched & ~ignored, axis=1, dtype=np.float64)
    precision = np.zeros((len(matched), len(RECALL_POINTS)))
    if not len(scores):
        return precision, np.zeros(len(matched))
    recall = true / positives
    envelope = true / (true + false + np.spacing(1))
    envelope = np.maximum.accumulate(envelope[:, ::-1], axis=1)[:, ::-1]
    for row in range(len(matched)):
        place = np.searchsorted(recall[row], RECALL_POINTS, side='left')
        reached = place < len(scores)
        precision[row, reached] = envelope[row, place[reached]]
    return precision, recall[:, -1]
