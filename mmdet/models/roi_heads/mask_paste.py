"""Paste masks of regions into images; called by the two-stage detectors after detection.

torchvision's ``paste_masks_in_image`` resizes one mask at a time and copies each box to the host; this function
processes a batch on the device.
"""
from __future__ import annotations

import torch
from torch import Tensor

from mmdet.models.task_modules.box_convention import BoxConvention


def _taps(start: Tensor, length: Tensor, size: int, bins: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the linear interpolation of ``bins`` values at every pixel of an axis of ``size`` pixels.

    Args:
        start, length: (n,) of the intervals that the bins cover, in pixels.

    Returns:
        Four tensors (n, size): the lower and the upper bin, int64, the weight of the upper bin, and whether the centre
        of the pixel is inside the interval.
    """
    offset = torch.arange(size, device=start.device) + 0.5 - start[:, None]
    position = (offset * (bins / length[:, None]) - 0.5).clamp(0, bins - 1)  # constant beyond the outer centres
    lower = position.floor()
    inside = (offset >= 0) & (offset < length[:, None])
    return lower.long(), (lower + 1).clamp(max=bins - 1).long(), position - lower, inside


def paste_masks(masks: Tensor, bboxes: Tensor, height: int, width: int, convention: BoxConvention,
                threshold: float = 0.5) -> Tensor:
    """Resize masks bilinearly to their boxes, threshold them, and paste them into images of equal size.

    Legacy boxes are truncated to whole pixels first, and are at least one pixel wide. A pixel is inside a continuous
    box if its centre is.

    Args:
        masks: (n, m, m) probabilities.
        bboxes: (n, 4) in pixels of the image; parts outside the image are cropped.
        convention: convention of the boxes.
        threshold: pixels are set where the probability is greater.

    Returns:
        (n, width, height) bool, transposed, so that their memory has the order of the runs of an RLE.
    """
    if convention.legacy:
        bboxes = bboxes.trunc()
    x1, y1, x2, y2 = convention.continuous(bboxes).unbind(dim=1)
    least = 1.0 if convention.legacy else 1e-6
    low, high, weight, inside_y = _taps(y1, (y2 - y1).clamp(min=least), height, masks.shape[1])
    masks = masks.transpose(1, 2)  # (n, x, y)
    lines = (-1, masks.shape[1], -1)
    rows = torch.lerp(masks.gather(2, low[:, None].expand(lines)), masks.gather(2, high[:, None].expand(lines)),
                      weight[:, None])
    low, high, weight, inside_x = _taps(x1, (x2 - x1).clamp(min=least), width, masks.shape[1])
    mask = torch.arange(len(masks), device=masks.device)[:, None]
    values = torch.lerp(rows[mask, low], rows[mask, high], weight[..., None])
    return (values > threshold) & inside_x[:, :, None] & inside_y[:, None, :]
