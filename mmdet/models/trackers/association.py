"""Which track does a detection continue? Pure functions (paper section 3.4); the trackers call them once a frame.

Symbols: N detections of the frame, M tracks in the memory. Column 0 of a score matrix is the dummy "a new object".
"""
from __future__ import annotations

import torch
from torch import Tensor

from mmdet.structures import legacy_box_iou

NEW_TRACK = 0


def association_scores(similarity: Tensor, scores: Tensor, bboxes: Tensor, labels: Tensor, track_bboxes: Tensor,
                       track_labels: Tensor, match_coeff: tuple[float, float, float] = (1.0, 2.0, 10.0)) -> Tensor:
    """Score of every detection against the dummy and every track.

    log-softmax over [0, similarity] + a·ln(score) + b·IoU+ + c·[same label]; the dummy has IoU 0 and counts as same label.

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
    appearance = torch.cat([similarity.new_zeros(len(similarity), 1), similarity], dim=1).log_softmax(dim=1)
    evidence = torch.cat([
        similarity.new_full((len(similarity), 1), weight_label),
        weight_iou * legacy_box_iou(bboxes, track_bboxes) + weight_label * (labels[:, None] == track_labels[None])
    ], dim=1)
    return appearance + weight_score * scores.log()[:, None] + evidence


def resolve_claims(match_scores: Tensor) -> tuple[list[int], list[int]]:
    """Turn scores (N, M + 1) into decisions: each detection claims its best column; a track goes to its best claimant.

    The first claimant wins a tie; losers are dropped for this frame.

    Returns:
        ``(winners, columns)``: detections kept, in order, and for each its column (:data:`NEW_TRACK` or 1 + track index).
    """
    best, columns = match_scores.max(dim=1)
    best, columns = best.tolist(), columns.tolist()
    winner: dict[int, int] = {}
    for detection, column in enumerate(columns):
        if column != NEW_TRACK and (column not in winner or best[detection] > best[winner[column]]):
            winner[column] = detection
    kept = [i for i, column in enumerate(columns) if column == NEW_TRACK or winner[column] == i]
    return kept, [columns[i] for i in kept]
