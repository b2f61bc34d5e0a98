"""Fast NMS (Yolact): all comparisons at once instead of one after another; called by the dense heads in testing.

Symbols: B images, S candidates, K classes, D detections.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmdet.structures import pairwise_iou


@dataclass
class Detections:
    """Fixed-size result: rows after an image's last detection have ``valid`` False and score 0.

    Attributes:
        bboxes: (B, D, 4). scores: (B, D), best first. labels: (B, D) int64, 0-based.
        index: (B, D) int64, the candidate each came from. valid: (B, D) bool.
    """

    bboxes: Tensor
    scores: Tensor
    labels: Tensor
    index: Tensor
    valid: Tensor


def fast_nms(bboxes: Tensor, scores: Tensor, nms_thr: float, score_thr: float, max_per_img: int,
             nms_pre: int = 200) -> Detections:
    """Drop each box that overlaps any better box of its class, dropped or not, by more than the threshold.

    Args:
        bboxes: (B, S, 4). scores: (B, S, K) in [0, 1].
        nms_thr: largest plain IoU that is kept. score_thr: scores must exceed it.
        max_per_img: D, detections per image over all classes at most.
        nms_pre: candidates per class at most.
    """
    batch = len(scores)
    top, order = scores.transpose(1, 2).sort(dim=2, descending=True, stable=True)  # (B, K, S)
    top, order = top[..., :nms_pre], order[..., :nms_pre]
    boxes = bboxes[torch.arange(batch, device=order.device)[:, None, None], order]  # (B, K, n, 4)
    worst = pairwise_iou(boxes).triu(diagonal=1).amax(dim=2)  # (B, K, n): largest overlap with a better box
    # a NaN overlap (empty boxes) fails the comparison and is dropped
    kept = (worst <= nms_thr) & (top > score_thr)
    best, position = torch.where(kept, top, 0.0).flatten(1).topk(min(max_per_img, kept[0].numel()), dim=1)
    labels = position // top.shape[2]
    index = order.flatten(1).gather(1, position)
    kept = boxes.flatten(1, 2).gather(1, position[..., None].expand(-1, -1, 4))
    return Detections(kept, best, labels, index, best > 0)
