"""Instance masks of boxes split into parts with coefficients of their own (SipMask, section 3.2); called by its head.

Symbols: B images, P boxes, q = splits² parts of a box in row order, M bases, h×w their size (half the input's).
"""
from __future__ import annotations

import torch
from torch import Tensor

from mmdet.models.layers.crop_split import cells_along, crop_split


def split_masks(bases: Tensor, coefficients: Tensor, bboxes: Tensor, splits: int) -> Tensor:
    """Mask probabilities, zero outside the boxes, for the few boxes of a test frame.

    Args:
        bases: (B, M, h, w). coefficients: (B, P, q·M), part by part. bboxes: (B, P, 4) in pixels of the bases.
        splits: rows and columns of parts.

    Returns:
        (B, P, h, w) float32 in [0, 1].
    """
    batch, boxes = bboxes.shape[:2]
    weights = coefficients.to(bases.dtype).view(batch, boxes * splits ** 2, -1)
    maps = (weights @ bases.flatten(2)).view(batch, boxes, splits ** 2, *bases.shape[-2:])
    return crop_split(maps.float().sigmoid(), bboxes, splits)


def split_mask_logits(bases: Tensor, coefficients: Tensor, bboxes: Tensor, splits: int) -> Tensor:
    """The logits of :func:`split_masks`, meaningless outside the boxes, for the many boxes of a training step.

    Returns:
        (B, P, h, w) float32.
    """
    height, width = bases.shape[-2:]
    x1, y1, x2, y2 = bboxes.unbind(dim=-1)  # (B, P)
    column = cells_along(x1, x2, width, splits)[..., None, :]  # (B, P, 1, w)
    row = cells_along(y1, y2, height, splits)[..., :, None]  # (B, P, h, 1)
    flat = bases.flatten(2)
    logits = None
    for part, weights in enumerate(coefficients.to(bases.dtype).chunk(splits ** 2, dim=2)):
        value = (weights @ flat).unflatten(2, (height, width)).float()
        mine = (row == part // splits) & (column == part % splits)
        # one part after the other: only the choice is remembered for the gradient, not q maps a box
        logits = value if logits is None else torch.where(mine, value, logits)
    return logits
