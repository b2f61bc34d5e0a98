"""Generalised IoU loss of boxes; called by the losses of the dense heads.

torchvision's ``generalized_box_iou_loss`` picks the overlapping boxes with a mask, which waits for the device five
times and cannot be captured in a CUDA graph; the values and gradients here are the same.
"""
from __future__ import annotations

import torch
from torch import Tensor


def giou_loss(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> Tensor:
    """1 − GIoU of boxes x1, y1, x2, y2 of equal index: (..., 4), (..., 4) float32 → (...), in [0, 2].

    Args:
        eps: added to the areas that are divided by.
    """
    overlap = torch.minimum(boxes1[..., 2:], boxes2[..., 2:]) - torch.maximum(boxes1[..., :2], boxes2[..., :2])
    intersection = torch.where((overlap > 0).all(dim=-1), _area(overlap), 0.0)
    union = _area(boxes1[..., 2:] - boxes1[..., :2]) + _area(boxes2[..., 2:] - boxes2[..., :2]) - intersection
    hull = _area(torch.maximum(boxes1[..., 2:], boxes2[..., 2:]) - torch.minimum(boxes1[..., :2], boxes2[..., :2]))
    return 1 - intersection / (union + eps) + (hull - union) / (hull + eps)


def _area(sides: Tensor) -> Tensor:
    # the backward pass of prod() would look for zeros
    return sides[..., 0] * sides[..., 1]
