"""Label assignment of the MemCNP head (paper section 3.3); called by its losses.

Every assigner returns a fixed number of slots per image, some of them empty, to avoid synchronising with the GPU.

Symbols: B images, N locations of all levels in level order, G padded objects, P slots.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.arguments import checked_count, checked_number, checked_positive, checked_range
from mmdet.errors import UserError, counted
from mmdet.models.task_modules.padded_targets import PaddedTargets
from mmdet.models.task_modules.points import bbox2distance
from mmdet.ops.device import device_constant
from mmdet.registry import TASK_UTILS


@dataclass
class Assignment:
    """Result of an assigner.

    Attributes:
        index: (B, P) int64, the location of each slot.
        gt: (B, P) int64, the object of each slot.
        positive: (B, P) bool, False for an empty slot.
        negative: (B, N) bool, whether a location is background.
        inside: (B, N) bool, whether a location lies in the box of any object, edges included.
        centerness: (B, N) in [0, 1], the centerness target.
    """

    index: Tensor
    gt: Tensor
    positive: Tensor
    negative: Tensor
    inside: Tensor
    centerness: Tensor


def centerness_targets(distances: Tensor, valid: Tensor, level_sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Compute the largest centerness over all objects at the finest level, bilinearly resized to the other levels.

    Args:
        distances: (B, N, G, 4) l, t, r, b.
        valid: (B, G) bool.
        level_sizes: (h, w) of each level.

    Returns:
        (B, N), at the finest level sqrt(max_g min(l,r)/max(l,r) · min(t,b)/max(t,b)).
    """
    height, width = level_sizes[0]
    clamped = distances[:, :height * width].clamp(min=0)
    horizontal, vertical = clamped[..., 0::2], clamped[..., 1::2]
    ratio = (horizontal.amin(-1) / (horizontal.amax(-1) + 1e-9)) * (vertical.amin(-1) / (vertical.amax(-1) + 1e-9))
    finest = (ratio * valid[:, None]).amax(dim=2).sqrt().unflatten(1, (1, height, width))  # (B, 1, h, w)
    levels = [finest] + [F.interpolate(finest, size, mode='bilinear', align_corners=False) for size in level_sizes[1:]]
    return torch.cat([level.flatten(1) for level in levels], dim=1)


class _Assigner(ABC):
    """Base class of the assigners, which computes the geometry of locations and objects.

    Attributes:
        num_levels: number of levels that the arguments are for; None: any number.
    """

    num_levels: int | None = None

    def __call__(self, points: Tensor, level_sizes: Sequence[tuple[int, int]], sigmas: Tensor,
                 targets: PaddedTargets) -> Assignment:
        """Assign the locations of a batch.

        Args:
            points: (N, 2) in pixels of the padded input.
            level_sizes: (h, w) of each level, finest first.
            sigmas: (B, N, 4) predicted standard deviations.
            targets: objects of the batch.
        """
        distances = bbox2distance(points, targets.gt_bboxes)  # (B, N, G, 4)
        in_box = (distances >= 0).all(dim=-1) & targets.valid[:, None]  # (B, N, G)
        # twice the distance of the point to each centre; the factor does not change the nearest centre
        offset = (distances[..., :2] - distances[..., 2:]).norm(dim=-1).masked_fill(~targets.valid[:, None], torch.inf)
        closest = offset.argmin(dim=2)  # (B, N)
        centerness = centerness_targets(distances, targets.valid, level_sizes)
        index, gt, positive, negative = self.assign(distances, in_box, closest, centerness, sigmas, level_sizes,
                                                    targets)
        return Assignment(index, gt, positive, negative & targets.valid.any(dim=1, keepdim=True), in_box.any(dim=2),
                          centerness)

    def check_levels(self, num_levels: int) -> None:
        """Raise UserError unless the arguments are for a head with ``num_levels`` levels."""
        if self.num_levels not in (None, num_levels):
            raise UserError(f'{type(self).__name__} has arguments for {self.num_levels} instead of '
                            f'{counted(num_levels, "level")}, as the head has; set one range of scale_ranges for each '
                            'level')

    @abstractmethod
    def assign(self, distances: Tensor, in_box: Tensor, closest: Tensor, centerness: Tensor, sigmas: Tensor,
               level_sizes: Sequence[tuple[int, int]], targets: PaddedTargets) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ``index``, ``gt``, ``positive`` and ``negative`` of an :class:`Assignment`."""


@TASK_UTILS.register_module()
class UncertaintyAssigner(_Assigner):
    """Assign central locations of low uncertainty to each object, as in the paper.

    Score = centerness target − min(mean σ, 1). Positives: for each level and object, the ``top_k`` locations of highest
    score among those whose nearest object centre is the object's, if they lie in the box of any object. Negatives:
    other locations with a score below 0. All others are ignored.

    Args:
        top_k: maximum number of positives per level and object. Published: 4.
        max_top_k: if set, the number grows with the object from ``top_k`` to ``max_top_k``: it is ``fraction`` times
            the number of the level's locations in the object's box, rounded. None, as published: it is constant.
        fraction: see ``max_top_k``; in (0, 1].
        scale_ranges: (min, max) for each level, finest first: the sizes √(w·h) in pixels, bounds included, of the
            objects that the level detects. An object within no range is detected by the level of the nearest range.
            Locations of other levels nearest to its centre are negative. None, as published: all levels detect all
            objects.

    Raises:
        UserError: an argument is out of range.
    """

    def __init__(self, top_k: int = 4, max_top_k: int | None = None, fraction: float = 0.25,
                 scale_ranges: Sequence[Sequence[float]] | None = None) -> None:
        checked_count('UncertaintyAssigner top_k', top_k, 1)
        if max_top_k is not None and checked_count('UncertaintyAssigner max_top_k', max_top_k, 1) < top_k:
            raise UserError(f'UncertaintyAssigner max_top_k={max_top_k!r} is less than top_k={top_k!r}')
        checked_positive('UncertaintyAssigner fraction', checked_number('UncertaintyAssigner fraction', fraction, 0, 1))
        self.top_k, self.fraction = top_k, fraction
        self.max_top_k = top_k if max_top_k is None else max_top_k
        self.scale_ranges = None
        if scale_ranges is not None:
            if not isinstance(scale_ranges, (list, tuple)):
                raise UserError(f'UncertaintyAssigner scale_ranges={scale_ranges!r} is not a list of pairs (min, max) '
                                'of sizes in pixels')
            self.scale_ranges = tuple(checked_range('UncertaintyAssigner scale_ranges', pair, 0)
                                      for pair in scale_ranges)
            self.num_levels = len(self.scale_ranges)

    def assign(self, distances: Tensor, in_box: Tensor, closest: Tensor, centerness: Tensor, sigmas: Tensor,
               level_sizes: Sequence[tuple[int, int]], targets: PaddedTargets) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        num_gt = targets.valid.shape[1]
        sizes = [height * width for height, width in level_sizes]
        score = centerness - sigmas.mean(dim=-1).clamp(max=1)  # (B, N)
        mine = (closest[:, None] == torch.arange(num_gt, device=closest.device)[:, None]) & targets.valid[..., None]
        background = score < 0
        if self.scale_ranges is not None:
            detected = torch.cat([detects[..., None].expand(-1, -1, size) for detects, size in zip(
                self._levels_of(targets.gt_bboxes).unbind(dim=2), sizes)], dim=2)  # (B, G, N)
            background = background | ~detected.gather(1, closest[:, None]).squeeze(1)
            mine = mine & detected
        per_gt = score[:, None].masked_fill(~mine, -torch.inf)  # (B, G, N)
        values, indices, start = [], [], 0
        for size, level, in_level in zip(sizes, per_gt.split(sizes, dim=2), in_box.split(sizes, dim=1)):
            value, index = level.topk(min(self.max_top_k, size), dim=2)
            if self.top_k < self.max_top_k:
                count = (in_level.sum(dim=1) * self.fraction).round().clamp(self.top_k, self.max_top_k)  # (B, G)
                rank = torch.arange(value.shape[2], device=value.device)
                value = value.masked_fill(rank >= count[..., None], -torch.inf)
            values.append(value)
            indices.append(index + start)
            start += size
        value, index = torch.cat(values, dim=2), torch.cat(indices, dim=2)  # (B, G, slots)
        gt = torch.arange(num_gt, device=index.device)[None, :, None].expand(index.shape).flatten(1)
        value, index = value.flatten(1), index.flatten(1)  # (B, P)
        positive = value.isfinite() & in_box.any(dim=2).gather(1, index)
        # counted, since an empty slot may have the location of a positive slot
        taken = torch.zeros_like(index[:, :1].expand(score.shape)).scatter_add(1, index, positive.long())
        return index, gt, positive, (taken == 0) & background

    def _levels_of(self, gt_bboxes: Tensor) -> Tensor:
        """Return which levels detect objects (B, G, 4), as a mask (B, G, levels)."""
        assert self.scale_ranges is not None
        low, high = (device_constant(bounds, gt_bboxes.device) for bounds in zip(*self.scale_ranges))  # (levels,)
        size = (gt_bboxes[..., 2:] - gt_bboxes[..., :2]).clamp(min=0).prod(dim=-1).sqrt()[..., None]  # (B, G, 1)
        outside = torch.maximum(low - size, size - high).clamp(min=0)
        return outside == outside.amin(dim=2, keepdim=True)


@TASK_UTILS.register_module()
class CenterAssigner(_Assigner):
    """Assign the locations near object centres (simpler baselines).

    Positives are the locations in the box of any object whose distance to the nearest centre is less than a radius. All
    others are negative. The distance is the larger of |dx| and |dy|, in pixels of half the resolution.

    Args:
        radius: ``'stride'``: 1.5 · stride of the level (the published type ``none``); ``'image'``: 1.5 · 2 / W
            (``objbox``).
        num_slots: maximum number of positives per image, those nearest to a centre.
        strides: strides of the levels.

    Raises:
        UserError: if ``radius`` is unknown.
    """

    def __init__(self, radius: str = 'stride', num_slots: int = 256, strides: Sequence[int] = (8, 16, 32, 64)) -> None:
        if radius not in ('stride', 'image'):
            raise UserError(f"CenterAssigner radius={radius!r} is unknown; use 'stride' or 'image'")
        self.radius, self.num_slots, self.strides = radius, num_slots, tuple(strides)

    def assign(self, distances: Tensor, in_box: Tensor, closest: Tensor, centerness: Tensor, sigmas: Tensor,
               level_sizes: Sequence[tuple[int, int]], targets: PaddedTargets) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        to_mine = distances.gather(2, closest[..., None, None].expand(-1, -1, 1, 4)).squeeze(2)  # (B, N, 4)
        # (l − r)/2 is the offset in pixels
        offset = (to_mine[..., :2] - to_mine[..., 2:]).abs().amax(dim=-1) / 4
        if self.radius == 'image':
            # the width of the finest level times its stride is the padded width
            limits = [1.5 * 2 / (level_sizes[0][1] * self.strides[0])] * len(level_sizes)
        else:
            limits = [1.5 * stride for stride in self.strides]
        limit = torch.cat([offset.new_full((height * width,), value)
                           for (height, width), value in zip(level_sizes, limits)])  # (N,)
        hit = in_box.any(dim=2) & (offset < limit) & targets.valid.any(dim=1, keepdim=True)  # (B, N)
        slots = min(self.num_slots, hit.shape[1])
        value, index = (-offset).masked_fill(~hit, -torch.inf).topk(slots, dim=1)
        return index, closest.gather(1, index), value.isfinite(), ~hit
