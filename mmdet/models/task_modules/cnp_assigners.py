"""Label assignment of the MemCNP head (paper section 3.3); called by its losses.

Every assigner returns a fixed number of slots per image, some of them empty, so that nothing synchronises with the GPU.

Symbols: B images, N locations of all levels in level order, G padded objects, P slots.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.errors import UserError
from mmdet.models.task_modules.padded_targets import PaddedTargets
from mmdet.models.task_modules.points import bbox2distance
from mmdet.registry import TASK_UTILS


@dataclass
class Assignment:
    """Result of an assigner.

    Attributes:
        index: (B, P) int64, the location of each slot.
        gt: (B, P) int64, its object.
        positive: (B, P) bool, False for an empty slot.
        negative: (B, N) bool, locations assigned to the background.
        inside: (B, N) bool, locations in some object's box, edges included.
        centerness: (B, N) in [0, 1], the centerness target.
    """

    index: Tensor
    gt: Tensor
    positive: Tensor
    negative: Tensor
    inside: Tensor
    centerness: Tensor


def centerness_targets(distances: Tensor, valid: Tensor, level_sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Compute the best centerness over the objects at the finest level, resized bilinearly to the others.

    Args:
        distances: (B, N, G, 4). valid: (B, G). level_sizes: (h, w) of each level.

    Returns:
        (B, N): sqrt(max_g min(l,r)/max(l,r) · min(t,b)/max(t,b)).
    """
    height, width = level_sizes[0]
    clamped = distances[:, :height * width].clamp(min=0)
    horizontal, vertical = clamped[..., 0::2], clamped[..., 1::2]
    ratio = (horizontal.amin(-1) / (horizontal.amax(-1) + 1e-9)) * (vertical.amin(-1) / (vertical.amax(-1) + 1e-9))
    finest = (ratio * valid[:, None]).amax(dim=2).sqrt().unflatten(1, (1, height, width))  # (B, 1, h, w)
    levels = [finest] + [F.interpolate(finest, size, mode='bilinear', align_corners=False) for size in level_sizes[1:]]
    return torch.cat([level.flatten(1) for level in levels], dim=1)


class _Assigner(ABC):
    """Base class of the assigners: geometry of locations and objects."""

    def __call__(self, points: Tensor, level_sizes: Sequence[tuple[int, int]], sigmas: Tensor,
                 targets: PaddedTargets) -> Assignment:
        """Assign the locations of a batch.

        Args:
            points: (N, 2) in pixels of the padded input.
            level_sizes: (h, w) of each level, finest first.
            sigmas: (B, N, 4) predicted standard deviations.
            targets: the batch's objects.
        """
        distances = bbox2distance(points, targets.gt_bboxes)  # (B, N, G, 4)
        in_box = (distances >= 0).all(dim=-1) & targets.valid[:, None]  # (B, N, G)
        # twice the offset of the point from each centre: the nearest centre is the same
        offset = (distances[..., :2] - distances[..., 2:]).norm(dim=-1).masked_fill(~targets.valid[:, None], torch.inf)
        closest = offset.argmin(dim=2)  # (B, N)
        centerness = centerness_targets(distances, targets.valid, level_sizes)
        index, gt, positive, negative = self.assign(distances, in_box, closest, centerness, sigmas, level_sizes,
                                                    targets)
        return Assignment(index, gt, positive, negative & targets.valid.any(dim=1, keepdim=True), in_box.any(dim=2),
                          centerness)

    @abstractmethod
    def assign(self, distances: Tensor, in_box: Tensor, closest: Tensor, centerness: Tensor, sigmas: Tensor,
               level_sizes: Sequence[tuple[int, int]], targets: PaddedTargets) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ``index``, ``gt``, ``positive`` and ``negative`` of an :class:`Assignment`."""


@TASK_UTILS.register_module()
class UncertaintyAssigner(_Assigner):
    """The paper's assignment: per level and object the locations that are central and certain.

    Score = centerness target − min(mean σ, 1). Positives: the ``top_k`` best-scoring locations among those closest to
    the object, if they lie in some object. Negatives: other locations with a score below 0. The rest is ignored.

    Args:
        top_k: locations per level and object.
    """

    def __init__(self, top_k: int = 4) -> None:
        self.top_k = top_k

    def assign(self, distances: Tensor, in_box: Tensor, closest: Tensor, centerness: Tensor, sigmas: Tensor,
               level_sizes: Sequence[tuple[int, int]], targets: PaddedTargets) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        num_gt = targets.valid.shape[1]
        score = centerness - sigmas.mean(dim=-1).clamp(max=1)  # (B, N)
        mine = (closest[:, None] == torch.arange(num_gt, device=closest.device)[:, None]) & targets.valid[..., None]
        per_gt = score[:, None].masked_fill(~mine, -torch.inf)  # (B, G, N)
        sizes = [height * width for height, width in level_sizes]
        values, indices, start = [], [], 0
        for size, level in zip(sizes, per_gt.split(sizes, dim=2)):
            value, index = level.topk(min(self.top_k, size), dim=2)
            values.append(value)
            indices.append(index + start)
            start += size
        value, index = torch.cat(values, dim=2), torch.cat(indices, dim=2)  # (B, G, slots)
        gt = torch.arange(num_gt, device=index.device)[None, :, None].expand(index.shape).flatten(1)
        value, index = value.flatten(1), index.flatten(1)  # (B, P)
        positive = value.isfinite() & in_box.any(dim=2).gather(1, index)
        # count, since an empty slot may share a positive's location
        taken = torch.zeros_like(index[:, :1].expand(score.shape)).scatter_add(1, index, positive.long())
        return index, gt, positive, (taken == 0) & (score < 0)


@TASK_UTILS.register_module()
class CenterAssigner(_Assigner):
    """Simpler baselines: positives are the locations in some box that lie within a radius of the closest centre.

    The rest is negative.

    Offsets are the larger of |dx|, |dy|, in pixels of half the resolution.

    Args:
        radius: ``'stride'``: 1.5 · stride of the level (the published type ``none``); ``'image'``: 1.5 · 2 / W
            (``objbox``).
        num_slots: positives kept per image at most, most central first.
        strides: of the levels.

    Raises:
        UserError: an unknown radius.
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
            # the finest level spans the padded width
            limits = [1.5 * 2 / (level_sizes[0][1] * self.strides[0])] * len(level_sizes)
        else:
            limits = [1.5 * stride for stride in self.strides]
        limit = torch.cat([offset.new_full((height * width,), value)
                           for (height, width), value in zip(level_sizes, limits)])  # (N,)
        hit = in_box.any(dim=2) & (offset < limit) & targets.valid.any(dim=1, keepdim=True)  # (B, N)
        slots = min(self.num_slots, hit.shape[1])
        value, index = (-offset).masked_fill(~hit, -torch.inf).topk(slots, dim=1)
        return index, closest.gather(1, index), value.isfinite(), ~hit
