"""Locations of a feature pyramid: points, conversion to and from boxes, top-k per level, sampling of maps.

Called by the dense heads (FCOS, SipMask, MemCNP), their label assignment and the memory.

Symbols: B images, levels l with h_l×w_l locations, N = Σ h_l·w_l locations in level order, G objects.
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.ops.device import device_constant, is_capturing
from mmdet.structures import box_centers

Device = torch.device | str | None

# ---------------------------------------------------------------------------------------------------------------------
# Points


def level_points(height: int, width: int, stride: int, offset: float = 0.5, device: Device = None) -> Tensor:
    """Compute the points of a level in row-major order: x, y = ((j + offset)·stride, (i + offset)·stride) in pixels.

    Returns:
        (height·width, 2).
    """
    x = (torch.arange(width, device=device, dtype=torch.float32) + offset) * stride
    y = (torch.arange(height, device=device, dtype=torch.float32) + offset) * stride
    y, x = torch.meshgrid(y, x, indexing='ij')
    return torch.stack([x, y], dim=-1).flatten(0, 1)


def pyramid_points(level_sizes: Sequence[tuple[int, int]], strides: Sequence[int], device: Device = None) -> Tensor:
    """Return the points of all levels of sizes (h, w), in level order: (N, 2), see :func:`level_points`.

    The result is cached: never modify it.
    """
    arguments = tuple(level_sizes), tuple(strides), device
    # not cached in a CUDA graph, since the cache may free an entry that the graph still reads, nor for symbolic sizes
    if is_capturing() or torch.compiler.is_exporting():
        return _pyramid_points.__wrapped__(*arguments)
    return _pyramid_points(*arguments)


@lru_cache(maxsize=64)
def _pyramid_points(level_sizes: tuple[tuple[int, int], ...], strides: tuple[int, ...], device: Device) -> Tensor:
    with torch.inference_mode(False):
        return torch.cat([level_points(*size, stride, device=device) for size, stride in zip(level_sizes, strides)])


class Grid(NamedTuple):
    """The locations of a pyramid.

    Attributes:
        points: (N, 2) x, y in pixels.
        level_sizes: (h, w) of each level.
        size: (H, W) of the input.
    """

    points: Tensor
    level_sizes: list[tuple[int, int]]
    size: tuple[int, int]

    @classmethod
    def of(cls, feats: Sequence[Tensor], strides: Sequence[int]) -> Grid:
        """Create the grid of maps (B, C, h_l, w_l)."""
        level_sizes = [(feat.shape[-2], feat.shape[-1]) for feat in feats]
        height, width = level_sizes[0]
        return cls(pyramid_points(level_sizes, strides, feats[0].device), level_sizes,
                   (height * strides[0], width * strides[0]))


# ---------------------------------------------------------------------------------------------------------------------
# Points and boxes


def bbox2distance(points: Tensor, bboxes: Tensor) -> Tensor:
    """Compute the distances left, top, right, bottom from every point to the sides of every box, positive inside.

    Args:
        points: (n, 2).
        bboxes: (..., G, 4).

    Returns:
        (..., n, G, 4).
    """
    bboxes = bboxes.unsqueeze(-3)  # (..., 1, G, 4)
    points = points.unsqueeze(-2)  # (n, 1, 2)
    return torch.cat([points - bboxes[..., :2], bboxes[..., 2:] - points], dim=-1)


def distance2bbox(points: Tensor, distances: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Decode boxes from the distances of points to their sides.

    Args:
        points: (..., 2) x, y in pixels.
        distances: (..., 4) l, t, r, b in pixels.
        size: (H, W) of the image to which the boxes are clamped; None: they are not clamped.

    Returns:
        (..., 4) x1, y1, x2, y2 in pixels.
    """
    bboxes = torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)
    if size is None:
        return bboxes
    height, width = size
    return torch.minimum(bboxes.clamp(min=0), device_constant((width, height) * 2, bboxes.device))


def enlarge_boxes(bboxes: Tensor, fraction: float) -> Tensor:
    """Enlarge boxes (..., 4) at each side by a fraction of their width and height; they may extend beyond the image."""
    if not fraction:
        return bboxes
    margin = fraction * (bboxes[..., 2:] - bboxes[..., :2])
    return torch.cat([bboxes[..., :2] - margin, bboxes[..., 2:] + margin], dim=-1)


def jitter_boxes(bboxes: Tensor, fraction: float) -> Tensor:
    """Shift each box (..., 4) randomly by up to a fraction of its width and height."""
    shift = (2 * torch.rand_like(bboxes[..., :2]) - 1) * fraction * (bboxes[..., 2:] - bboxes[..., :2])
    return bboxes + torch.cat([shift, shift], dim=-1)


# ---------------------------------------------------------------------------------------------------------------------
# Selecting and sampling locations


def topk_per_level(scores: Tensor, level_sizes: Sequence[tuple[int, int]], k: int) -> Tensor:
    """Find the ``k`` highest scores of each level, or all of a level with fewer locations.

    In an export there are always ``k`` per level, since a level may have a symbolic size: see :func:`drop_padding`.

    Args:
        scores: (B, N).
        level_sizes: (h, w) of each level.
        k: number of scores.

    Returns:
        (B, S) int64 indices of locations, in level order.
    """
    sizes = [height * width for height, width in level_sizes]
    index, start = [], 0
    for size, level in zip(sizes, scores.split(sizes, dim=1)):
        if torch.compiler.is_exporting():
            index.append(F.pad(level, (0, k), value=-1.0).topk(k, dim=1).indices.clamp(max=size - 1) + start)
        else:
            index.append(level.topk(min(k, size), dim=1).indices + start)
        start += size
    return torch.cat(index, dim=1)


def drop_padding(scores: Tensor, level_sizes: Sequence[tuple[int, int]], k: int) -> Tensor:
    """Set the scores (B, S, K) of those results of :func:`topk_per_level` to 0 that exist only in an export.

    They repeat the last location of a level with fewer than ``k`` locations.
    """
    if not torch.compiler.is_exporting():
        return scores
    place = torch.arange(k, device=scores.device)
    real = torch.cat([place < height * width for height, width in level_sizes])
    return scores * real[:, None]


def gather_rows(tensor: Tensor, index: Tensor) -> Tensor:
    """Gather the rows with indices (B, P) of a tensor (B, n, c): (B, P, c)."""
    return tensor.gather(1, index[..., None].expand(-1, -1, tensor.shape[2]))


def sample_at_centers(feature: Tensor, bboxes: Tensor, stride: int = 8, rounding: str = 'floor') -> Tensor:
    """Return the feature vectors at the centres of boxes, clamped to the map.

    Args:
        feature: (B, C, h, w).
        bboxes: (B, n, 4) in pixels of the input.
        stride: stride of the map.
        rounding: rounding of centre / stride: ``'floor'`` or ``'nearest'`` (half to even).

    Returns:
        (B, n, C).
    """
    height, width = feature.shape[-2:]
    cells = box_centers(bboxes) / stride
    cells = (cells.floor() if rounding == 'floor' else cells.round()).long()
    x, y = cells[..., 0].clamp(0, width - 1), cells[..., 1].clamp(0, height - 1)
    return feature[torch.arange(len(feature), device=feature.device)[:, None], :, y, x]
