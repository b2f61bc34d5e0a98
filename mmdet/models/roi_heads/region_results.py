"""Detections of regions as rows on the device, and their conversion to results on the host.

Called by the two-stage detectors in testing.

Symbols: n detections of all frames, E channels of an embedding.
"""
from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.structures.device_rle import ends_to_rle, fixed_ends
from mmdet.structures.instances import make_instances

_PIXELS_AT_ONCE = 2 ** 24  # of masks with fixed shapes: this bounds the memory of a graph
_ENDS_OF_A_COLUMN = 8  # mean number for which there is room: four runs in each column of each mask


def to_rows(found: InstanceData) -> Tensor:
    """Return the rows (n, 7 + E) float32 of detections: ``image``, ``bboxes``, ``scores``, ``labels``, embedding."""
    return torch.column_stack([found.image, found.bboxes, found.scores, found.labels, found.embeddings]).float()


def to_results(rows: Tensor, rles: list[dict], num_frames: int) -> list[InstanceData]:
    """Convert rows on the host, those of each frame in order, and the masks to the results of each frame."""
    bounds = torch.searchsorted(rows[:, 0].contiguous(), torch.arange(num_frames + 1.0)).tolist()
    return [make_instances(dict(bboxes=part[:, 1:5], scores=part[:, 5], labels=part[:, 6].long(),
                                embeddings=part[:, 7:], masks=rles[first:last]))
            for first, last in pairwise(bounds) for part in [rows[first:last]]]


class FixedDetections(NamedTuple):
    """Detections in a fixed number n of slots, as a CUDA graph computes them.

    Attributes:
        rows: see :func:`to_rows`; the score of empty slots is −1.
        exact: () bool: if False, the others are not valid.
        ends: the ends of the runs of the masks of all slots, those of empty slots without pixels, for several masks at
            once; see :func:`mmdet.structures.device_rle.fixed_ends`.
    """

    rows: Tensor
    exact: Tensor
    ends: list[Tensor]

    @classmethod
    def of(cls, found: InstanceData, exact: Tensor, height: int, width: int,
           paste: Callable[[Tensor, Tensor], Tensor]) -> FixedDetections:
        """Create the detections of all slots.

        Args:
            found: fields of :func:`to_rows` and ``mask_probs``, of n slots.
            exact: () bool.
            height, width: of the masks.
            paste: computes transposed masks (k, width, height) of k mask probabilities and boxes.
        """
        at_once = _masks_at_once(height, width)
        ends = []
        for probs, bboxes, scores in zip(*(values.split(at_once)
                                           for values in (found.mask_probs, found.bboxes, found.scores))):
            columns = paste(probs, bboxes) & (scores >= 0)[:, None, None]
            ends.append(fixed_ends(columns, _ENDS_OF_A_COLUMN * len(columns) * width))
        return cls(to_rows(found), exact, ends)

    def start_copy(self) -> FixedDetections:
        """Start to copy the detections to the host; see :class:`mmdet.ops.device.Launched`."""
        rows, exact, *ends = (tensor.to('cpu', non_blocking=True) for tensor in (self.rows, self.exact, *self.ends))
        return FixedDetections(rows, exact, ends)

    def complete(self) -> bool:
        """Return whether copied detections are valid, and all ends are among them."""
        return bool(self.exact) and all(int(ends[0]) < len(ends) for ends in self.ends)

    def results(self, num_frames: int, height: int, width: int) -> list[InstanceData]:
        """Convert copied, complete detections to the results of each frame."""
        rles: list[dict] = []
        for ends, scores in zip(self.ends, self.rows[:, 5].split(_masks_at_once(height, width))):
            encoded = ends_to_rle(ends[1:1 + int(ends[0])].numpy(), len(scores), height, width)
            rles += [rle for rle, score in zip(encoded, scores.tolist()) if score >= 0]
        # selecting rows copies them, so that the results do not keep the page-locked memory of the copy
        return to_results(self.rows[self.rows[:, 5] >= 0], rles, num_frames)


def _masks_at_once(height: int, width: int) -> int:
    return max(_PIXELS_AT_ONCE // (height * width), 1)
