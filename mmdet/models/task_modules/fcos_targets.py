"""Label assignment of FCOS and SipMask (FCOS, section 3.1 and 3.2); called by their losses.

Symbols: B images, N locations of all levels in level order, G padded objects.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from mmdet.models.task_modules.padded_targets import PaddedTargets
from mmdet.models.task_modules.points import bbox2distance

FINEST_RANGE = 64  # pixels; largest distance to the farthest side of boxes assigned to the finest level


@dataclass
class FCOSTargets:
    """Targets of the locations.

    Attributes:
        gt: (B, N) int64, the object of each location; 0 if there is none.
        positive: (B, N) bool.
        centerness: (B, N) in [0, 1]; 0 for locations that are not positive.
    """

    gt: Tensor
    positive: Tensor
    centerness: Tensor


def default_regress_ranges(num_levels: int) -> list[tuple[float, float]]:
    """Return the ranges [−1, 64], [64, 128], [128, 256], … in pixels; the last has no upper bound."""
    bounds = [-1.0, *(FINEST_RANGE * 2.0 ** level for level in range(num_levels - 1)), math.inf]
    return list(pairwise(bounds))


def fcos_targets(points: Tensor, level_sizes: Sequence[tuple[int, int]], strides: Sequence[int],
                 regress_ranges: Sequence[tuple[float, float]], targets: PaddedTargets,
                 center_radius: float | None = None) -> FCOSTargets:
    """Assign each location to the smallest object whose box strictly contains it and is in the level's range.

    Args:
        points: (N, 2) in pixels.
        level_sizes, strides: (h, w) and stride of each level, finest first.
        regress_ranges: smallest and largest distance to the farthest side of the box for each level, inclusive.
        targets: objects of the batch.
        center_radius: if set, |dx| and |dy| to the centre of the box must be less than this many strides.
    """
    def per_location(values: Sequence[float]) -> Tensor:
        return torch.cat([points.new_full((h * w,), value) for value, (h, w) in zip(values, level_sizes)])

    distances = bbox2distance(points, targets.gt_bboxes)  # (B, N, G, 4)
    nearest, farthest = distances.amin(dim=-1), distances.amax(dim=-1)
    low, high = (per_location(bound)[:, None] for bound in zip(*regress_ranges))
    candidate = (nearest > 0) & (farthest >= low) & (farthest <= high) & targets.valid[:, None]
    if center_radius is not None:
        # the larger of |dx|, |dy| to the centre
        offset = (distances[..., :2] - distances[..., 2:]).abs().amax(dim=-1) / 2
        candidate &= offset < center_radius * per_location(strides)[:, None]
    area = (targets.gt_bboxes[..., 2:] - targets.gt_bboxes[..., :2] + 1).prod(dim=-1)  # (B, G)
    smallest, gt = torch.where(candidate, area[:, None], torch.inf).min(dim=2)
    positive = smallest.isfinite()

    mine = distances.gather(2, gt[..., None, None].expand(-1, -1, 1, 4)).squeeze(2)  # (B, N, 4)
    mine = torch.where(positive[..., None], mine, 1.0)
    horizontal, vertical = mine[..., 0::2], mine[..., 1::2]
    ratio = (horizontal.amin(-1) / horizontal.amax(-1)) * (vertical.amin(-1) / vertical.amax(-1))
    return FCOSTargets(gt, positive, torch.where(positive, ratio.sqrt(), 0.0))
