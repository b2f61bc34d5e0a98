"""Instance masks from shared maps: crops to boxes, coefficients times maps, masks of the parts of a box.

Called by the MemCNP and SipMask heads in training and testing. SipMask (Cao et al., ECCV 2020), section 3.2; the
boundary rules are those of its published CUDA kernel.

Symbols: B images, P boxes, C or M channels of a shared map, h×w its size (half the input's), c parts of a box along
each axis, leading dimensions written as ….
"""
from __future__ import annotations

import torch
from torch import Tensor

from mmdet.ops.mask_logits import mask_logits


def inside_boxes(bboxes: Tensor, height: int, width: int) -> Tensor:
    """Return a mask of the pixels inside boxes: x1 ≤ x < x2 and y1 ≤ y < y2 for integer x, y.

    Args:
        bboxes: (..., 4) in pixels of the map.

    Returns:
        (..., height, width) bool.
    """
    x = torch.arange(width, device=bboxes.device)
    y = torch.arange(height, device=bboxes.device)
    x1, y1, x2, y2 = bboxes[..., None].unbind(dim=-2)  # (..., 1)
    columns = (x >= x1) & (x < x2)  # (..., width)
    rows = (y >= y1) & (y < y2)
    return rows[..., :, None] & columns[..., None, :]


# ---------------------------------------------------------------------------------------------------------------------
# One vector of coefficients per object (MemCNP)


def coefficient_masks(coarse_map: Tensor, coefficients: Tensor, bboxes: Tensor, factor: int) -> Tensor:
    """Compute sigmoid(coefficients · mask map), zero outside the boxes.

    Args:
        coarse_map: (B, C, h/factor, w/factor), the mask map before its upsampling.
        coefficients: (B, P, C).
        bboxes: (B, P, 4) in pixels of the mask map.
        factor: upsampling factor.

    Returns:
        (B, P, h, w) float32 probabilities.
    """
    logits = mask_logits(coarse_map, coefficients, factor)
    return logits.sigmoid() * inside_boxes(bboxes, *logits.shape[-2:])


# ---------------------------------------------------------------------------------------------------------------------
# One vector of coefficients per part of an object's box (SipMask)


def parts_along(low: Tensor, high: Tensor, size: int, parts: int) -> Tensor:
    """Return the part of the box that each pixel of an axis lies in; arbitrary outside the box.

    The published 0.1 keeps the part of a pixel at the far end below ``parts``; it shifts the boundaries between the
    parts by a fraction of 0.1 pixels.

    Args:
        low, high: (…) ends of the boxes along the axis, in pixels.
        size: number of pixels of the axis.

    Returns:
        (…, size) int64 in [0, parts).
    """
    position = torch.arange(size, device=low.device, dtype=low.dtype)
    part = (position - low[..., None]) / ((high - low + 0.1) / parts)[..., None]
    return part.floor().long().clamp(0, parts - 1)


def crop_split(masks: Tensor, bboxes: Tensor, parts: int = 2) -> Tensor:
    """Select each pixel from the map of the part of the box it lies in (SipMask's CropSplit); 0 outside the box.

    Differentiable in ``masks`` (a pixel's gradient flows only to the map it was selected from), not in ``bboxes``.

    Args:
        masks: (…, c², h, w), maps ordered by row, then column of the part: for c = 2 top left, top right, bottom left,
            bottom right.
        bboxes: (…, 4), x1, y1, x2, y2 in pixels of the map; may extend beyond it, be empty or not finite.
        parts: c.

    Returns:
        (…, h, w) in the dtype of ``masks``.

    Raises:
        ValueError: if ``masks`` does not contain c² maps for every box.
    """
    height, width = masks.shape[-2:]
    if masks.shape[:-2] != (*bboxes.shape[:-1], parts ** 2):
        raise ValueError(f'crop_split: masks {tuple(masks.shape)} do not contain {parts ** 2} maps for each of the '
                         f'boxes {tuple(bboxes.shape)}')
    bboxes = bboxes.detach()
    # half precision cannot represent all pixel coordinates above 256, nor the 0.1 added to them
    x1, y1, x2, y2 = (bboxes if bboxes.dtype == torch.float64 else bboxes.float()).unbind(-1)
    rows, columns = parts_along(y1, y2, height, parts), parts_along(x1, x2, width, parts)
    part = rows[..., :, None] * parts + columns[..., None, :]  # (…, h, w)
    chosen = masks.gather(-3, part[..., None, :, :]).squeeze(-3)
    return chosen.where(inside_boxes(bboxes, height, width), 0)


def split_masks(bases: Tensor, coefficients: Tensor, bboxes: Tensor, parts: int) -> Tensor:
    """Compute the mask probabilities of the few boxes of a test frame, zero outside the boxes.

    Args:
        bases: (B, M, h, w) basis masks.
        coefficients: (B, P, c²·M), ordered by part.
        bboxes: (B, P, 4) in pixels of the bases.
        parts: c.

    Returns:
        (B, P, h, w) float32 in [0, 1].
    """
    batch, num_boxes = bboxes.shape[:2]
    weights = coefficients.to(bases.dtype).view(batch, num_boxes * parts ** 2, -1)
    maps = (weights @ bases.flatten(2)).view(batch, num_boxes, parts ** 2, *bases.shape[-2:])
    return crop_split(maps.float().sigmoid(), bboxes, parts)


def pixels_of_part(bboxes: Tensor, height: int, width: int, part: int, parts: int) -> Tensor:
    """Return a mask of the pixels in one part of each box; every pixel, outside the boxes too, is in exactly one part.

    Args:
        bboxes: (B, P, 4) in pixels of the map.
        part: index in [0, c²), by row, then column.
        parts: c.

    Returns:
        (B, P, height, width) bool.
    """
    x1, y1, x2, y2 = bboxes.unbind(dim=-1)  # (B, P)
    columns = parts_along(x1, x2, width, parts) == part % parts  # (B, P, w)
    rows = parts_along(y1, y2, height, parts) == part // parts  # (B, P, h)
    return rows[..., :, None] & columns[..., None, :]


def split_mask_logits(bases: Tensor, coefficients: Tensor, bboxes: Tensor, parts: int) -> Tensor:
    """Compute the logits of :func:`split_masks` for the many boxes of a training step; arbitrary outside the boxes.

    Returns:
        (B, P, h, w) float32, or float64 for bases in float64.
    """
    height, width = bases.shape[-2:]
    flat = bases.flatten(2)
    logits = None
    for part, weights in enumerate(coefficients.to(bases.dtype).chunk(parts ** 2, dim=2)):
        value = (weights @ flat).unflatten(2, (height, width))
        value = value.to(torch.promote_types(value.dtype, torch.float32))
        # one part at a time, since c² maps per box take much memory
        logits = value if logits is None else torch.where(pixels_of_part(bboxes, height, width, part, parts), value,
                                                          logits)
    assert logits is not None
    return logits
