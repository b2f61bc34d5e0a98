"""Box arithmetic that torchvision lacks. Boxes are x1,y1,x2,y2.

*Legacy* overlaps count pixels: a box is x2 - x1 + 1 wide. The published losses and the association use them (IoU+ in
the documentation); non-maximum suppression uses plain ones.
"""
import torch
from torch import Tensor


def _with_end_pixel(boxes: Tensor) -> Tensor:
    return torch.cat([boxes[..., :2], boxes[..., 2:] + 1], dim=-1)


def aligned_legacy_box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU+ of boxes of equal index: (..., 4), (..., 4) → (...)."""
    boxes1, boxes2 = _with_end_pixel(boxes1), _with_end_pixel(boxes2)
    overlap = (torch.minimum(boxes1[..., 2:], boxes2[..., 2:])
               - torch.maximum(boxes1[..., :2], boxes2[..., :2])).clamp(min=0).prod(-1)
    area1 = (boxes1[..., 2:] - boxes1[..., :2]).prod(-1)
    area2 = (boxes2[..., 2:] - boxes2[..., :2]).prod(-1)
    return overlap / (area1 + area2 - overlap)


def box_centers(boxes: Tensor) -> Tensor:
    """Centres x, y: (..., 4) → (..., 2)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2
