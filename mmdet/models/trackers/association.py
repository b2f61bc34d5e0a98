"""Which track does a detection continue? Pure functions (paper section 3.4); the trackers call them once a frame.

Arrays are numpy's: with ten objects a frame, PyTorch's cost per call would be most of the time.

Symbols: N detections of the frame, M tracks in the memory. Column 0 of a score matrix is the dummy "a new object".
"""
from __future__ import annotations

import numpy as np

NEW_TRACK = 0


def legacy_iou(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """IoU+ (widths x2 − x1 + 1) of every pair: (n, 4), (m, 4) → (n, m)."""
    size1, size2 = boxes1[:, 2:] - boxes1[:, :2] + 1, boxes2[:, 2:] - boxes2[:, :2] + 1
    # x and y one after the other: numpy is slow where the innermost axis has two elements
    width, height = (
        np.maximum(np.minimum(boxes1[:, side + 2, None], end) - np.maximum(boxes1[:, side, None], begin) + 1, 0)
        for side, begin, end in zip((0, 1), boxes2[:, :2].T.copy(), boxes2[:, 2:].T.copy()))
    overlap = width * height
    return overlap / (size1.prod(axis=1)[:, None] + size2.prod(axis=1) - overlap)


def association_scores(similarity: np.ndarray, scores: np.ndarray, bboxes: np.ndarray, labels: np.ndarray,
                       track_bboxes: np.ndarray, track_labels: np.ndarray,
                       match_coeff: tuple[float, float, float] = (1.0, 2.0, 10.0)) -> np.ndarray:
    """Score of every detection against the dummy and every track.

    log-softmax over [0, similarity] + a·ln(score) + b·IoU+ + c·[same label]; the dummy has IoU 0 and counts as of the
    same label.

    Args:
        similarity: (N, M) logits of appearance similarity.
        scores: (N,) detection scores in (0, 1].
        bboxes, labels: (N, 4) and (N,) of the detections; boxes in original pixels.
        track_bboxes, track_labels: (M, 4) and (M,) of the tracks.
        match_coeff: a, b, c.

    Returns:
        (N, M + 1).
    """
    weight_score, weight_iou, weight_label = match_coeff
    result = np.zeros((len(similarity), similarity.shape[1] + 1), np.float32)
    result[:, 1:] = similarity
    largest = result.max(axis=1, keepdims=True)
    result -= largest + np.log(np.exp(result - largest).sum(axis=1, keepdims=True))
    result += weight_score * np.log(scores)[:, None]
    result[:, 0] += weight_label
    result[:, 1:] += weight_iou * legacy_iou(bboxes, track_bboxes)
    result[:, 1:] += weight_label * (labels[:, None] == track_labels[None])
    return result


def resolve_claims(match_scores: np.ndarray) -> tuple[list[int], list[int]]:
    """Turn scores (N, M + 1) into decisions: each detection claims its best column; a track goes to its best claimant.

    The first claimant wins a tie; losers are dropped for this frame.

    Returns:
        ``(winners, columns)``: detections kept, in order, and for each its column (:data:`NEW_TRACK` or 1 + track).
    """
    columns = match_scores.argmax(axis=1)
    best = match_scores[np.arange(len(columns)), columns].tolist()
    columns = columns.tolist()
    winner: dict[int, int] = {}
    for detection, column in enumerate(columns):
        if column != NEW_TRACK and (column not in winner or best[detection] > best[winner[column]]):
            winner[column] = detection
    kept = [i for i, column in enumerate(columns) if column == NEW_TRACK or winner[column] == i]
    return kept, [columns[i] for i in kept]
