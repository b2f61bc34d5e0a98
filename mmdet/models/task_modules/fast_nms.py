"""Fast NMS (Yolact): all comparisons at once instead of one after another; called by the one-stage heads in testing.

Symbols: B images, S candidates, K classes, D detections.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_area


@dataclass
class Detections:
    """Fixed-size result: rows behind an image's last detection have ``valid`` False and score 0.

    Attributes:
        bboxes: (B, D, 4). scores: (B, D), best first. labels: (B, D) int64, 0-based.
        index: (B, D) int64, the candidate each came from. valid: (B, D) bool.
    """

    bboxes: Tensor
    scores: Tensor
    labels: Tensor
    index: Tensor
    valid: Tensor


def _pairwise_iou(bboxes: Tensor) -> Tensor:
    """Plain IoU of all pairs: (..., n, 4) → (..., n, n). NaN where both boxes are empty."""
    # x and y one after the other: an innermost axis of two elements is slow on a CPU
    width, height = (
        (torch.minimum(end[..., :, None], end[..., None, :])
         - torch.maximum(begin[..., :, None], begin[..., None, :])).clamp(min=0)
        for begin, end in ((bboxes[..., side], bboxes[..., side + 2]) for side in (0, 1)))
    overlap = width * height
    area = box_area(bboxes.flatten(0, -2)).unflatten(0, bboxes.shape[:-1])
    return overlap / (area[..., :, None] + area[..., None, :] - overlap)


def fast_nms(bboxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float, max_per_image: int,
             pre_nms: int = 200) -> Detections:
    """Class by class: drop a box that overlaps any better box of its class, dropped or not, by more than the threshold.

    Args:
        bboxes: (B, S, 4). scores: (B, S, K) in [0, 1].
        iou_threshold: largest plain IoU that is kept. score_threshold: scores must exceed it.
        max_per_image: D, detections per image over all classes at most.
        pre_nms: candidates per class at most.
    """
    batch = len(scores)
    top, order = scores.transpose(1, 2).sort(dim=2, descending=True, stable=True)  # (B, K, S)
    top, order = top[..., :pre_nms], order[..., :pre_nms]
    boxes = bboxes[torch.arange(batch, device=order.device)[:, None, None], order]  # (B, K, n, 4)
    worst = _pairwise_iou(boxes).triu(diagonal=1).amax(dim=2)  # (B, K, n): largest overlap with a better box
    # a NaN overlap (empty boxes) fails the comparison and is dropped
    kept = (worst <= iou_threshold) & (top > score_threshold)
    best, position = torch.where(kept, top, 0.0).flatten(1).topk(min(max_per_image, kept[0].numel()), dim=1)
    labels = position // top.shape[2]
    index = order.flatten(1).gather(1, position)
    kept = boxes.flatten(1, 2).gather(1, position[..., None].expand(-1, -1, 4))
    return Detections(kept, best, labels, index, best > 0)
