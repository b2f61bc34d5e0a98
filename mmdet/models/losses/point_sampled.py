"""Mask losses at sampled points (PointRend, arXiv 1912.08193, section 3.1; Mask2Former, arXiv 2112.01527, section 3.3).

Called by the criterion of ``VidEoMT`` and by the matcher; usable for any masks given as logits.

Symbols: M masks of h×w pixels, P points. Points are (x, y) relative to the mask, in [0, 1]².
"""
from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

OVERSAMPLE = 3  # candidates per point
IMPORTANT = 0.75  # fraction of the points that are sampled where the logit is closest to 0


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Sample maps at points by bilinear interpolation between pixel centres, with zeros outside.

    Args:
        maps: (M, h, w) floating point.
        points: (M, P, 2), or (1, P, 2) for the same points in all maps.

    Returns:
        (M, P).
    """
    if torch.are_deterministic_algorithms_enabled() and maps.is_cuda:
        return sample_points_by_index(maps, points)
    grid = 2 * points.to(maps.dtype) - 1
    if len(points) == 1:
        # as channels of one image, so that interpolation weights are computed once
        return F.grid_sample(maps[None], grid[:, :, None], align_corners=False)[0, :, :, 0]
    return F.grid_sample(maps[:, None], grid[:, :, None], align_corners=False)[:, 0, :, 0]


def sample_points_by_index(maps: Tensor, points: Tensor) -> Tensor:
    """Compute :func:`sample_points` by indexing, since gradients of ``grid_sample`` are not deterministic on a GPU."""
    height, width = maps.shape[1:]
    bordered = F.pad(maps, (1, 1, 1, 1))
    place = points.to(maps.dtype) * torch.tensor([width, height], dtype=maps.dtype, device=maps.device) + 0.5
    corner = place.floor()
    x, y = corner.long().unbind(-1)  # of the bordered maps
    right, down = (place - corner).unbind(-1)
    row = torch.arange(len(maps), device=maps.device)[:, None]
    return ((bordered[row, y, x] * (1 - right) + bordered[row, y, x + 1] * right) * (1 - down)
            + (bordered[row, y + 1, x] * (1 - right) + bordered[row, y + 1, x + 1] * right) * down)


@torch.no_grad()
def uncertain_points(logits: Tensor, num_points: int, rand: Callable[..., Tensor] = torch.rand) -> Tensor:
    """Sample random points of each mask, most of them where its logit is close to 0.

    Of 3P uniform points, the ⌊0.75P⌋ with the smallest absolute logit are kept; the remaining points are new uniform
    ones.

    Args:
        logits: (M, h, w).
        num_points: P.
        rand: function with the signature of ``torch.rand``.

    Returns:
        (M, P, 2).
    """
    candidates = rand(len(logits), OVERSAMPLE * num_points, 2, device=logits.device)
    important = int(IMPORTANT * num_points)
    chosen = (-sample_points(logits, candidates).abs()).topk(important, dim=1).indices  # (M, 0.75P)
    kept = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    return torch.cat([kept, rand(len(logits), num_points - important, 2, device=logits.device)], dim=1)


def point_bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the binary cross-entropy at points (M, P), averaged over the points of each mask: (M,)."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction='none').mean(1)


def point_dice(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute 1 − (2·Σσt + 1) / (Σσ + Σt + 1) over points (M, P): (M,)."""
    probs = logits.sigmoid()
    return 1 - (2 * (probs * targets).sum(1) + 1) / (probs.sum(1) + targets.sum(1) + 1)


def pairwise_bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute :func:`point_bce` of each of Q predictions (Q, P) with each of n targets (n, P): (Q, n)."""
    positive = F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits), reduction='none')
    negative = F.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits), reduction='none')
    return (positive @ targets.T + negative @ (1 - targets).T) / logits.shape[1]


def pairwise_dice(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute :func:`point_dice` of each of Q predictions (Q, P) with each of n targets (n, P): (Q, n)."""
    probs = logits.sigmoid()
    return 1 - (2 * probs @ targets.T + 1) / (probs.sum(1)[:, None] + targets.sum(1)[None] + 1)
