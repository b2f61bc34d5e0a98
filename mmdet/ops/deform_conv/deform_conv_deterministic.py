"""3×3 deformable convolution by indexing, for ``--deterministic``; called by ``deform_conv.py``.

On a GPU, the Triton kernel, ``grid_sample`` and torchvision's operator accumulate gradients with atomic additions, in
an order that changes from run to run. The backward pass of indexing is deterministic with
``torch.use_deterministic_algorithms``.

Symbols: B images, C input channels, G offset groups, O output channels, h×w map.
"""
from __future__ import annotations

import torch
from torch import Tensor


def deform_conv3x3_deterministic(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """Apply a 3×3 deformable convolution v1 with stride 1, padding 1 and no bias, in float32 or float64.

    Samples outside the map are zero.

    Args:
        x: (B, C, h, w).
        offset: (B, 18·G, h, w), dy, dx in pixels for every group and tap.
        weight: (O, C, 3, 3).

    Returns:
        (B, O, h, w).
    """
    batch, channels, height, width = x.shape
    groups = offset.shape[1] // 18
    tap, rows, columns = (torch.arange(n, dtype=x.dtype, device=x.device) for n in (9, height, width))
    tap, rows = tap.view(9, 1, 1), rows.view(height, 1)
    dy, dx = offset.view(batch, groups, 9, 2, height, width).unbind(3)  # (B, G, 9, h, w)
    at_y, at_x = dy + rows + tap.div(3, rounding_mode='floor') - 1, dx + columns + tap % 3 - 1
    # When training diverges, offsets may be NaN: they must not be used as indices, but reach the output through the
    # interpolation weights below.
    top, left = (position.detach().floor().nan_to_num(-2) for position in (at_y, at_x))
    pixels = x.view(batch * groups, channels // groups, -1).transpose(1, 2).reshape(-1, channels // groups)
    first = torch.arange(batch * groups, device=x.device).view(batch, groups, 1, 1, 1) * (height * width)
    sampled = x.new_zeros(())
    for down in (0, 1):
        for right in (0, 1):
            row, column = top + down, left + right
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = first + row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
            vertical = at_y - top if down else 1 - at_y + top
            horizontal = at_x - left if right else 1 - at_x + left
            sampled = sampled + (vertical * horizontal * inside)[..., None] * pixels[index]  # (B, G, 9, h, w, C / G)
    sampled = sampled.permute(0, 1, 5, 2, 3, 4).reshape(batch, channels * 9, height * width)
    return (weight.flatten(1) @ sampled).view(batch, -1, height, width)
