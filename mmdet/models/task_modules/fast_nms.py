"""Fast NMS (YOLACT), which makes all comparisons in parallel; called by the dense heads in testing.

Symbols: B images, S candidates, K classes, D detections.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmdet.ops.prior_overlap import prior_overlap


@dataclass
class Detections:
    """Detections of fixed size.

    Attributes:
        bboxes: (B, D, 4).
        scores: (B, D) in descending order; 0 for empty slots.
        labels: (B, D) int64, 0-based.
        index: (B, D) int64, index of the candidate.
        valid: (B, D) bool, False for empty slots.
    """

    bboxes: Tensor
    scores: Tensor
    labels: Tensor
    index: Tensor
    valid: Tensor


def _highest(scores: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Return the highest scores (..., n) along the last axis in descending, stable order, and their indices."""
    if torch.compiler.is_exporting():  # ONNX has no stable sort, but its TopK is stable
        values, order = scores.topk(min(number, scores.shape[-1]), dim=-1)
    else:
        values, order = scores.sort(dim=-1, descending=True, stable=True)
    return values[..., :number], order[..., :number]


def rescore_by_masks(detections: Detections, masks: Tensor, exponent: float) -> tuple[Detections, Tensor]:
    """Multiply scores by the quality of the masks to the power of an exponent, and sort the detections again.

    The quality is the mean probability of the foreground pixels (probability above ½), as in SOLO (Wang et al., ECCV
    2020); it is 0, and the slot becomes empty, without such pixels.

    Args:
        detections: D detections in each of B images.
        masks: (B, D, h, w) in [0, 1].
        exponent: positive.

    Returns:
        Detections and masks in the new order.
    """
    foreground = masks > 0.5
    quality = (masks * foreground).sum(dim=(2, 3)) / foreground.sum(dim=(2, 3)).clamp(min=1)  # (B, D)
    scores, order = _highest(detections.scores * quality ** exponent, masks.shape[1])
    image = torch.arange(len(order), device=order.device)[:, None]
    return Detections(detections.bboxes[image, order], scores, detections.labels[image, order],
                      detections.index[image, order], scores > 0), masks[image, order]


def fast_nms(bboxes: Tensor, scores: Tensor, nms_thr: float, score_thr: float, max_per_img: int,
             nms_pre: int = 200, agnostic: bool = False) -> Detections:
    """Apply Fast NMS to each class: a box is also suppressed by boxes that are themselves suppressed.

    Per class, one box may be detected under several classes, and so may one object.

    Args:
        bboxes: (B, S, 4).
        scores: (B, S, K) in [0, 1].
        nms_thr: boxes whose IoU with any higher-scoring box of the class exceeds this are dropped.
        score_thr: boxes with a score of at most this are dropped.
        max_per_img: D, maximum number of detections per image over all classes.
        nms_pre: maximum number of candidates per class.
        agnostic: keep only the class of highest score of each box, then treat all boxes as of one class.
    """
    if agnostic:
        best, classes = scores.max(dim=2)
        found = fast_nms(bboxes, best[..., None], nms_thr, score_thr, max_per_img, nms_pre)
        found.labels = classes.gather(1, found.index)
        return found
    batch = len(scores)
    top, order = _highest(scores.transpose(1, 2), nms_pre)  # (B, K, n)
    boxes = bboxes[torch.arange(batch, device=order.device)[:, None, None], order]  # (B, K, n, 4)
    worst = prior_overlap(boxes)  # (B, K, n): highest IoU with a higher-scoring box
    # boxes whose IoU is NaN (empty boxes) fail the comparison and are dropped
    kept = (worst <= nms_thr) & (top > score_thr)
    best, position = torch.where(kept, top, 0.0).flatten(1).topk(min(max_per_img, kept[0].numel()), dim=1)
    labels = position // top.shape[2]
    index = order.flatten(1).gather(1, position)
    kept = boxes.flatten(1, 2).gather(1, position[..., None].expand(-1, -1, 4))
    return Detections(kept, best, labels, index, best > 0)
