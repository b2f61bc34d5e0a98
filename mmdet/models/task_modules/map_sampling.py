"""From locations to boxes, and from boxes to the map cells under their centres; shared by training and testing."""
from __future__ import annotations

import torch
from torch import Tensor

from mmdet.models.layers.constants import device_constant
from mmdet.structures import box_centers

TRACK_STRIDE = 8


def gather_rows(tensor: Tensor, index: Tensor) -> Tensor:
    """Rows of (B, n, c) at (B, P) → (B, P, c)."""
    return tensor.gather(1, index[..., None].expand(-1, -1, tensor.shape[2]))


def boxes_from_distances(points: Tensor, distances: Tensor) -> Tensor:
    """Points (..., 2) and their distances (..., 4) l, t, r, b to the sides, in pixels → (..., 4) x1, y1, x2, y2."""
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)


def decode_boxes(points: Tensor, distances: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes of relative distances, clamped to the image.

    Args:
        points: (n, 2) or (B, n, 2) in pixels. distances: (B, n, 4) l, t, r, b relative to ``size``. size: (H, W).

    Returns:
        (B, n, 4) x1, y1, x2, y2 in pixels.
    """
    height, width = size
    extent = device_constant((width, height) * 2, distances.device)
    return torch.minimum(boxes_from_distances(points, distances * extent).clamp(min=0), extent)


def sample_at_centers(track: Tensor, boxes: Tensor, rounding: str = 'floor') -> Tensor:
    """Vectors of the track map under the boxes' centres, clamped to the map.

    Args:
        track: (B, C, h, w) of stride 8. boxes: (B, n, 4) in pixels of the input.
        rounding: of centre / 8: ``'floor'`` or ``'nearest'`` (half to even).

    Returns:
        (B, n, C).
    """
    height, width = track.shape[-2:]
    cells = box_centers(boxes) / TRACK_STRIDE
    cells = (cells.floor() if rounding == 'floor' else cells.round()).long()
    x, y = cells[..., 0].clamp(0, width - 1), cells[..., 1].clamp(0, height - 1)
    return track[torch.arange(len(track), device=track.device)[:, None], :, y, x]


def jitter_boxes(boxes: Tensor, share: float) -> Tensor:
    """Boxes (..., 4), each shifted at random by up to this share of its width and height."""
    shift = (2 * torch.rand_like(boxes[..., :2]) - 1) * share * (boxes[..., 2:] - boxes[..., :2])
    return boxes + torch.cat([shift, shift], dim=-1)
