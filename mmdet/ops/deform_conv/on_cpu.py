"""3×3 deformable convolution on the CPU by ``grid_sample``; :func:`mmdet.ops.deform_conv.deform_conv3x3` uses it there.

torchvision's operator runs its backward pass on one core, ten times slower than this on two.

Symbols: B images, C channels in G groups with offsets of their own, O output channels, h×w map.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def deform_conv3x3_on_cpu(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """Deformable convolution v1, 3×3, stride 1, padding 1, no bias; zero outside the map. All float32 or float64.

    Args:
        x: (B, C, h, w). offset: (B, 18·G, h, w), per group and tap dy, dx in pixels. weight: (O, C, 3, 3).

    Returns:
        (B, O, h, w).
    """
    batch, channels, height, width = x.shape
    groups = offset.shape[1] // 18
    tap = torch.arange(9, dtype=x.dtype, device=x.device).view(9, 1, 1)
    rows = torch.arange(height, dtype=x.dtype, device=x.device).view(height, 1) + tap.div(3, rounding_mode='floor') - 1
    columns = torch.arange(width, dtype=x.dtype, device=x.device) + tap % 3 - 1
    dy, dx = offset.view(batch, groups, 9, 2, height, width).unbind(3)
    # pixel centres to grid_sample's -1..1, which spans the outer edges of the outer pixels
    grid = torch.stack([(2 * (columns + dx) + 1) / width - 1, (2 * (rows + dy) + 1) / height - 1], dim=-1)
    sampled = F.grid_sample(x.reshape(batch * groups, channels // groups, height, width),
                            grid.view(batch * groups, 9 * height, width, 2), align_corners=False)
    return (weight.flatten(1) @ sampled.view(batch, channels * 9, height * width)).view(batch, -1, height, width)
