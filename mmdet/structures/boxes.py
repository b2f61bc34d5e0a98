"""Box arithmetic that torchvision lacks or does too slowly. Boxes are x1, y1, x2, y2.

*Legacy* overlaps count pixels: a box is x2 - x1 + 1 wide. The published losses and the association use them (IoU+ in
the documentation); non-maximum suppression uses plain ones.
"""
import numpy as np
import torch
from torch import Tensor


def box_centers(bboxes: Tensor) -> Tensor:
    """Return the centres x, y: (..., 4) → (..., 2)."""
    return (bboxes[..., :2] + bboxes[..., 2:]) / 2


def pairwise_iou(bboxes: Tensor) -> Tensor:
    """Compute the plain IoU of all pairs: (..., n, 4) → (..., n, n). NaN where both boxes are empty."""
    # On a CPU, pairs of contiguous coordinates take an eighth of the time of pairs from rows of four.
    x1, y1, x2, y2 = bboxes.movedim(-1, 0).contiguous()  # (..., n) each
    width, height = (
        (torch.minimum(end[..., :, None], end[..., None, :])
         - torch.maximum(begin[..., :, None], begin[..., None, :])).clamp(min=0)
        for begin, end in ((x1, x2), (y1, y2)))
    overlap = width * height
    area = (x2 - x1) * (y2 - y1)
    return overlap / (area[..., :, None] + area[..., None, :] - overlap)


def aligned_legacy_box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Compute the IoU+ of boxes of equal index: (..., 4), (..., 4) → (...)."""
    boxes1, boxes2 = _with_end_pixel(boxes1), _with_end_pixel(boxes2)
    overlap = (torch.minimum(boxes1[..., 2:], boxes2[..., 2:])
               - torch.maximum(boxes1[..., :2], boxes2[..., :2])).clamp(min=0).prod(-1)
    area1 = (boxes1[..., 2:] - boxes1[..., :2]).prod(-1)
    area2 = (boxes2[..., 2:] - boxes2[..., :2]).prod(-1)
    return overlap / (area1 + area2 - overlap)


def legacy_iou(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """Compute the IoU+ of every pair: NumPy arrays (n, 4), (m, 4) → (n, m).

    For the association, frame by frame: with ten boxes, PyTorch's cost per call would be most of the time.
    """
    size1, size2 = boxes1[:, 2:] - boxes1[:, :2] + 1, boxes2[:, 2:] - boxes2[:, :2] + 1
    # x and y one after the other: numpy is slow where the innermost axis has two elements
    width, height = (
        np.maximum(np.minimum(boxes1[:, side + 2, None], end) - np.maximum(boxes1[:, side, None], begin) + 1, 0)
        for side, begin, end in zip((0, 1), boxes2[:, :2].T.copy(), boxes2[:, 2:].T.copy()))
    overlap = width * height
    return overlap / (size1.prod(axis=1)[:, None] + size2.prod(axis=1) - overlap)


def giou_loss(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> Tensor:
    """Compute 1 − GIoU of boxes of equal index: (..., 4), (..., 4) float32 → (...), in [0, 2].

    torchvision's ``generalized_box_iou_loss`` selects the overlapping boxes with a mask, which synchronises with the
    GPU five times and cannot be captured in a CUDA graph; the values and gradients here are the same.

    Args:
        eps: added to the areas that are divided by.
    """
    overlap = torch.minimum(boxes1[..., 2:], boxes2[..., 2:]) - torch.maximum(boxes1[..., :2], boxes2[..., :2])
    intersection = torch.where((overlap > 0).all(dim=-1), _area(overlap), 0.0)
    union = _area(boxes1[..., 2:] - boxes1[..., :2]) + _area(boxes2[..., 2:] - boxes2[..., :2]) - intersection
    hull = _area(torch.maximum(boxes1[..., 2:], boxes2[..., 2:]) - torch.minimum(boxes1[..., :2], boxes2[..., :2]))
    return 1 - intersection / (union + eps) + (hull - union) / (hull + eps)


def _with_end_pixel(bboxes: Tensor) -> Tensor:
    return torch.cat([bboxes[..., :2], bboxes[..., 2:] + 1], dim=-1)


def _area(sides: Tensor) -> Tensor:
    # the backward pass of prod() would search for zeros, which synchronises with the GPU
    return sides[..., 0] * sides[..., 1]
