"""3×3 deformable convolution on the CPU by ``grid_sample``; :func:`mmdet.ops.deform_conv.deform_conv3x3` uses it there.

torchvision's operator runs its backward pass on one core, ten times slower than this on two.

Symbols: B images, C channels in G groups with offsets of their own, O output channels, h×w map.
"""
from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


def deform_conv3x3_on_cpu(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """Apply a deformable convolution v1, 3×3, stride 1, padding 1, no bias; zero outside the map. Float32 or float64.

    Args:
        x: (B, C, h, w). offset: (B, 18·G, h, w), per group and tap dy, dx in pixels. weight: (O, C, 3, 3).

    Returns:
        (B, O, h, w).
    """
    batch, channels, height, width = x.shape
    groups = offset.shape[1] // 18
    x_base, y_base = _tap_positions(height, width, x.dtype)
    dy, dx = offset.view(batch, groups, 9, 2, height, width).unbind(3)
    # a complex number is a pair x, y side by side, made faster than by torch.stack
    grid = torch.view_as_real(torch.complex(torch.add(x_base, dx, alpha=2 / width),
                                            torch.add(y_base, dy, alpha=2 / height)))
    sampled = F.grid_sample(x.reshape(batch * groups, channels // groups, height, width),
                            grid.reshape(batch * groups, 9 * height, width, 2), align_corners=False)
    # the operator @ would transpose the columns, forward and backward
    weights = weight.flatten(1).expand(batch, -1, -1)
    return torch.bmm(weights, sampled.view(batch, channels * 9, height * width)).view(batch, -1, height, width)


@lru_cache(maxsize=32)
def _tap_positions(height: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Compute the positions of the nine taps without offsets, x (9, 1, w) and y (9, h, 1), in grid_sample's −1..1.

    They span the outer edges of the outer pixels.
    """
    with torch.inference_mode(False):
        tap, rows, columns = (torch.arange(n, dtype=dtype) for n in (9, height, width))
        x = columns + (tap % 3 - 1).view(9, 1, 1)
        y = rows.view(height, 1) + (tap.div(3, rounding_mode='floor') - 1).view(9, 1, 1)
        return (2 * x + 1) / width - 1, (2 * y + 1) / height - 1
