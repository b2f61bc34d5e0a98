"""Bipartite matching of queries and objects of a clip at minimum cost (DETR, arXiv 2005.12872, section 3.1).

Built from a config by name; called by the criterion of ``VidEoMT``.

Symbols: T frames, Q queries, n objects, K classes, P points.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmdet.models.losses.point_sampled import pairwise_bce, pairwise_dice, sample_points
from mmdet.registry import TASK_UTILS
from mmdet.structures import TrackDataSample

TAKEN = 1e6  # cost of a query that is already matched with an object of an earlier frame


@dataclass(frozen=True, eq=False)
class ClipTargets:
    """The objects of a clip.

    Attributes:
        labels: (n,) int64, 0-based.
        masks: (n, T, H, W) float32 in {0, 1}; zero in frames in which the object is not visible.
        first_frame: n integers: the first frame in which the object is visible, 0 to T − 1.
    """

    labels: Tensor
    masks: Tensor
    first_frame: tuple[int, ...]

    @classmethod
    def of(cls, clip: TrackDataSample, size: tuple[int, int], device: torch.device) -> ClipTargets:
        """Collect the objects with a non-empty mask in at least one frame, in order of appearance.

        Args:
            clip: frames with ``gt_instances``, whose masks are padded to ``size``.
            size: (H, W) of the network's input.
            device: device of the results.
        """
        rows: dict[int, int] = {}
        labels: list[Tensor] = []
        first_frame: list[int] = []
        places: list[tuple[int, int, int]] = []  # object, frame, the mask's row there
        for time, frame in enumerate(clip):
            instances = frame.gt_instances
            shown = instances.masks.flatten(1).any(1).tolist() if len(instances) else []
            for row, (ident, visible) in enumerate(zip(instances.instances_id.tolist(), shown)):
                if not visible:
                    continue
                if ident not in rows:
                    rows[ident] = len(rows)
                    labels.append(instances.labels[row])
                    first_frame.append(time)
                places.append((rows[ident], time, row))
        masks = torch.zeros(len(rows), len(clip), *size, device=device)
        for number, time, row in places:
            masks[number, time] = clip[time].gt_instances.masks[row]
        return cls(torch.stack(labels) if labels else torch.zeros(0, dtype=torch.long, device=device), masks,
                   tuple(first_frame))


@TASK_UTILS.register_module()
class HungarianClipMatcher:
    """Match each object with one query for the whole clip, in the first frame in which the object is visible.

    Cost in that frame: ``class_cost`` · (−probability of the label) + ``mask_cost`` · cross-entropy + ``dice_cost`` ·
    dice loss, the last two at P uniform points. Frames are processed in ascending order; a query is matched with at
    most one object.

    Args:
        num_points: P.
        class_cost, mask_cost, dice_cost: weights of the costs.
    """

    def __init__(self, num_points: int = 12544, class_cost: float = 2.0, mask_cost: float = 5.0,
                 dice_cost: float = 5.0) -> None:
        self.num_points = num_points
        self.class_cost, self.mask_cost, self.dice_cost = class_cost, mask_cost, dice_cost

    @torch.no_grad()
    def match(self, class_logits: Tensor, mask_logits: Tensor, targets: ClipTargets,
              rand: Callable[..., Tensor] = torch.rand) -> tuple[Tensor, Tensor]:
        """Match one clip.

        Args:
            class_logits: (T, Q, K + 1) float32; the last class is "no object".
            mask_logits: (T, Q, h, w) float32.
            targets: objects of the clip.
            rand: function with the signature of ``torch.rand`` that samples the points.

        Returns:
            Indices of matched queries and objects, (m,) int64 each, on the logits' device; m = min(n, Q).
        """
        frames = sorted(set(targets.first_frame))
        groups = [[row for row, first in enumerate(targets.first_frame) if first == frame] for frame in frames]
        costs = [self.cost(class_logits[frame], mask_logits[frame], targets.labels[rows],
                           targets.masks[rows, frame], rand) for frame, rows in zip(frames, groups)]
        queries, objects = _assign(_to_host(costs), groups)
        device = class_logits.device
        return torch.as_tensor(queries, device=device), torch.as_tensor(objects, device=device)

    def cost(self, class_logits: Tensor, mask_logits: Tensor, labels: Tensor, masks: Tensor,
             rand: Callable[..., Tensor] = torch.rand) -> Tensor:
        """Compute the cost (Q, n) of each query for each object in one frame.

        Args:
            class_logits: (Q, K + 1).
            mask_logits: (Q, h, w).
            labels: (n,).
            masks: (n, H, W) float32 in {0, 1}.
            rand: function with the signature of ``torch.rand`` that samples the points.
        """
        points = rand(1, self.num_points, 2, device=mask_logits.device)
        predicted, true = sample_points(mask_logits, points), sample_points(masks, points)
        return (-self.class_cost * class_logits.softmax(-1)[:, labels]
                + self.mask_cost * pairwise_bce(predicted, true) + self.dice_cost * pairwise_dice(predicted, true))


def _to_host(costs: list[Tensor]) -> list[np.ndarray]:
    """Copy all matrices (Q, n_i) in one copy; NaN and Inf are replaced, so that the loss, not SciPy, reports them."""
    if not costs:
        return []
    together = torch.cat(costs, dim=1).nan_to_num(TAKEN, TAKEN, -TAKEN).cpu().numpy()
    return np.split(together, np.cumsum([cost.shape[1] for cost in costs])[:-1], axis=1)


def _assign(costs: list[np.ndarray], groups: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Solve the assignment frame by frame; queries matched in earlier frames are not available."""
    from scipy.optimize import linear_sum_assignment  # imported here: 35 MB that only training of VidEoMT needs

    queries: list[np.ndarray] = [np.zeros(0, np.int64)]
    objects: list[np.ndarray] = [np.zeros(0, np.int64)]
    for cost, rows in zip(costs, groups):
        taken = np.concatenate(queries)
        cost[taken] = TAKEN
        query, column = linear_sum_assignment(cost)
        free = ~np.isin(query, taken)  # if there are more objects than queries, some objects remain unmatched
        queries.append(query[free].astype(np.int64))
        objects.append(np.array(rows, np.int64)[column[free]])
    return np.concatenate(queries), np.concatenate(objects)
