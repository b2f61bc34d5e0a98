"""Locations of a feature pyramid and their distances to boxes; used by every point-based head."""
from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


def level_points(height: int, width: int, stride: int, offset: float = 0.5,
                 device: torch.device | str | None = None) -> Tensor:
    """Points of a level, row by row: (height·width, 2) x, y = ((j + offset)·stride, (i + offset)·stride) in pixels."""
    x = (torch.arange(width, device=device, dtype=torch.float32) + offset) * stride
    y = (torch.arange(height, device=device, dtype=torch.float32) + offset) * stride
    y, x = torch.meshgrid(y, x, indexing='ij')
    return torch.stack([x, y], dim=-1).flatten(0, 1)


def pyramid_points(level_sizes: Sequence[tuple[int, int]], strides: Sequence[int],
                   device: torch.device | str | None = None) -> Tensor:
    """Points of all levels of sizes (h, w), in level order: (N, 2), see :func:`level_points`.

    Never write to the result: it is kept for the next caller.
    """
    arguments = tuple(level_sizes), tuple(strides), device
    # a CUDA graph makes its own: what is kept here may be dropped before the graph
    if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
        return _pyramid_points.__wrapped__(*arguments)
    return _pyramid_points(*arguments)


@lru_cache(maxsize=64)
def _pyramid_points(level_sizes: tuple[tuple[int, int], ...], strides: tuple[int, ...],
                    device: torch.device | str | None) -> Tensor:
    with torch.inference_mode(False):
        return torch.cat([level_points(*size, stride, device=device) for size, stride in zip(level_sizes, strides)])


def box_distances(points: Tensor, bboxes: Tensor) -> Tensor:
    """Distances left, top, right, bottom from every point to the sides of every box, positive inside.

    Args:
        points: (n, 2). bboxes: (..., G, 4).

    Returns:
        (..., n, G, 4).
    """
    bboxes = bboxes.unsqueeze(-3)  # (..., 1, G, 4)
    points = points.unsqueeze(-2)  # (n, 1, 2)
    return torch.cat([points - bboxes[..., :2], bboxes[..., 2:] - points], dim=-1)
