"""Instance masks of boxes split into parts with coefficients of their own (SipMask, section 3.2); called by its head.

Symbols: B images, P boxes, q = splits² parts of a box in row order, M bases, h×w their size (half the input's).
"""
from __future__ import annotations

import torch
from torch import Tensor

from mmdet.models.layers.box_crop import inside_boxes

_MARGIN = 0.1  # pixels added to a box before it is split, so that its last pixel lies in the last part


def _part_of(position: Tensor, start: Tensor, end: Tensor, splits: int) -> Tensor:
    """Part 0..splits−1 of every pixel coordinate (n,) along one side of boxes (..., 1): (..., n)."""
    return ((position - start) / ((end - start + _MARGIN) / splits)).floor().clamp(0, splits - 1)


def split_mask_logits(bases: Tensor, coefficients: Tensor, bboxes: Tensor, splits: int) -> Tensor:
    """Bases combined with the coefficients of the part of the box that a pixel lies in; meaningless outside the box.

    Args:
        bases: (B, M, h, w). coefficients: (B, P, q·M), part by part. bboxes: (B, P, 4) in pixels of the bases.
        splits: rows and columns of parts.

    Returns:
        (B, P, h, w) float32.
    """
    height, width = bases.shape[-2:]
    x1, y1, x2, y2 = bboxes[..., None].unbind(dim=-2)  # (B, P, 1)
    column = _part_of(torch.arange(width, device=bases.device), x1, x2, splits)[..., None, :]  # (B, P, 1, w)
    row = _part_of(torch.arange(height, device=bases.device), y1, y2, splits)[..., :, None]  # (B, P, h, 1)
    flat = bases.flatten(2)
    logits = None
    for part, weights in enumerate(coefficients.to(bases.dtype).chunk(splits ** 2, dim=2)):
        value = (weights @ flat).unflatten(2, (height, width)).float()
        mine = (row == part // splits) & (column == part % splits)
        # one part after the other: only the choice is remembered for the gradient, not q maps a box
        logits = value if logits is None else torch.where(mine, value, logits)
    return logits


def split_masks(bases: Tensor, coefficients: Tensor, bboxes: Tensor, splits: int) -> Tensor:
    """Mask probabilities, zero outside the boxes; arguments as of :func:`split_mask_logits`: (B, P, h, w) in [0, 1]."""
    logits = split_mask_logits(bases, coefficients, bboxes, splits)
    return logits.sigmoid() * inside_boxes(bboxes, *bases.shape[-2:])
