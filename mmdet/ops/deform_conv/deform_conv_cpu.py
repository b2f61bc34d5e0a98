"""3×3 deformable convolution on the CPU by ``grid_sample``; called by ``deform_conv.py``.

The backward pass of torchvision's operator uses a single core and is ten times slower than this one on two cores.

Symbols: B images, C input channels, G offset groups, O output channels, h×w map.
"""
from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


def deform_conv3x3_cpu(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
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
    x_base, y_base = _tap_positions(height, width, x.dtype)
    dy, dx = offset.view(batch, groups, 9, 2, height, width).unbind(3)
    # a complex tensor interleaves x and y; creating it is faster than torch.stack
    grid = torch.view_as_real(torch.complex(torch.add(x_base, dx, alpha=2 / width),
                                            torch.add(y_base, dy, alpha=2 / height)))
    sampled = F.grid_sample(x.reshape(batch * groups, channels // groups, height, width),
                            grid.reshape(batch * groups, 9 * height, width, 2), align_corners=False)
    # torch.bmm rather than @, which would transpose the columns in forward and backward
    weights = weight.flatten(1).expand(batch, -1, -1)
    return torch.bmm(weights, sampled.view(batch, channels * 9, height * width)).view(batch, -1, height, width)


def deform_conv3x3_export(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """Apply the same convolution by operators that torch.export and ONNX have, for symbolic sizes, too."""
    batch, channels, height, width = x.shape
    groups = offset.shape[1] // 18
    x_base, y_base = _tap_positions.__wrapped__(height, width, x.dtype, x.device)
    dy, dx = offset.view(batch, groups, 9, 2, height, width).unbind(3)
    grid = torch.stack([x_base + 2 * dx / width, y_base + 2 * dy / height], dim=-1)
    sampled = F.grid_sample(x.reshape(batch * groups, channels // groups, height, width),
                            grid.reshape(batch * groups, 9 * height, width, 2), align_corners=False)
    columns = sampled.reshape(batch, channels * 9, height * width)
    return (weight.flatten(1) @ columns).unflatten(2, (height, width))


@lru_cache(maxsize=32)
def _tap_positions(height: int, width: int, dtype: torch.dtype,
                   device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Return the positions of the nine taps without offsets, x (9, 1, w) and y (9, h, 1).

    Coordinates are normalised as for ``grid_sample`` with align_corners=False: −1 and 1 are the edges of the map.
    """
    with torch.inference_mode(False):
        tap, rows, columns = (torch.arange(n, dtype=dtype, device=device) for n in (9, height, width))
        x = columns + (tap % 3 - 1).view(9, 1, 1)
        y = rows.view(height, 1) + (tap.div(3, rounding_mode='floor') - 1).view(9, 1, 1)
        return (2 * x + 1) / width - 1, (2 * y + 1) / height - 1
