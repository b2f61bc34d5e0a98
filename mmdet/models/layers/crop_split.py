"""SipMask's CropSplit: one mask put together from the sub-regions of a box, each from a map of its own.

The SipMask head calls it in training (predicted and ground-truth masks) and in testing. SipMask (ECCV 2020), section
3.2; the boundary rules are those of its published CUDA kernel.

Symbols: c parts along each axis, h×w the map, leading dimensions (instances, or images × instances) written as ….
"""
from __future__ import annotations

import torch
from torch import Tensor

from mmdet.models.layers.box_crop import inside_boxes


def cells_along(low: Tensor, high: Tensor, size: int, parts: int) -> Tensor:
    """(…) ends of the boxes along one axis → (…, size) which part each pixel lies in; arbitrary outside the box.

    The published 0.1 keeps a pixel at the far end below `parts`; it moves the parts' borders by a fraction of it.
    """
    position = torch.arange(size, device=low.device, dtype=low.dtype)
    cell = (position - low[..., None]) / ((high - low + 0.1) / parts)[..., None]
    return cell.floor().long().clamp(0, parts - 1)


def crop_split(masks: Tensor, bboxes: Tensor, parts: int = 2) -> Tensor:
    """Each pixel from the map of the part of the box it lies in; 0 outside the box (x1 ≤ x < x2, y1 ≤ y < y2).

    Differentiable in `masks` (only the map a pixel was taken from gets its gradient), not in `bboxes`.

    Args:
        masks: (…, c², h, w), maps ordered by row, then column of the part: for c = 2 top left, top right, bottom left,
            bottom right.
        bboxes: (…, 4), x1, y1, x2, y2 in pixels of the map; may reach beyond it, be empty or not finite.
        parts: c.

    Returns:
        (…, h, w) in the dtype of `masks`.

    Raises:
        ValueError: `masks` does not hold c² maps for every box.
    """
    height, width = masks.shape[-2:]
    if masks.shape[:-2] != (*bboxes.shape[:-1], parts ** 2):
        raise ValueError(f'crop_split: masks {tuple(masks.shape)} do not hold {parts ** 2} maps for each of the boxes '
                         f'{tuple(bboxes.shape)}')
    bboxes = bboxes.detach()
    # Half precision would misplace pixels beyond 256 and round the 0.1 away.
    x1, y1, x2, y2 = (bboxes if bboxes.dtype == torch.float64 else bboxes.float()).unbind(-1)
    rows, columns = cells_along(y1, y2, height, parts), cells_along(x1, x2, width, parts)
    part = rows[..., :, None] * parts + columns[..., None, :]  # (…, h, w)
    chosen = masks.gather(-3, part[..., None, :, :]).squeeze(-3)
    return chosen.where(inside_boxes(bboxes, height, width), 0)


def crop_split_gt(masks: Tensor, bboxes: Tensor) -> Tensor:
    """(…, h, w) ground-truth masks, 0 outside the (…, 4) boxes: `crop_split` where every part has the same map."""
    return masks.where(inside_boxes(bboxes, *masks.shape[-2:]), 0)
