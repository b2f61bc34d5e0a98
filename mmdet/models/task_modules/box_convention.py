"""The two conventions for the end of a box; no other file knows them.

*Continuous* boxes (today's) are x2 - x1 wide. In *legacy* boxes (of weights published before 2020) x2 and y2 are
inclusive and the width is x2 - x1 + 1. Adding 1 to x2 and y2 turns a legacy box into a continuous one, so every
computation happens on those, with torchvision's operators. Called by the RPN head, the RoI heads and the detectors.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import batched_nms, box_iou


class BoxConvention:
    """Overlap, suppression, clipping and box deltas of boxes x1,y1,x2,y2.

    Args:
        legacy: x2 and y2 are inclusive.
    """

    def __init__(self, legacy: bool = False) -> None:
        self.legacy = legacy
        self.end = 1.0 if legacy else 0.0

    def continuous(self, boxes: Tensor) -> Tensor:
        """Convert boxes (..., 4) of this convention to continuous ones, x2 - x1 wide."""
        return boxes + boxes.new_tensor((0, 0, self.end, self.end))

    def from_continuous(self, boxes: Tensor) -> Tensor:
        """Invert :meth:`continuous`."""
        return boxes - boxes.new_tensor((0, 0, self.end, self.end))

    def iou(self, boxes1: Tensor, boxes2: Tensor) -> Tensor:
        """Compute the IoU of every pair: (n, 4), (m, 4) → (n, m)."""
        return box_iou(self.continuous(boxes1), self.continuous(boxes2))

    def nms(self, boxes: Tensor, scores: Tensor, groups: Tensor, nms_thr: float) -> Tensor:
        """Suppress each box that overlaps a better survivor of its group by more than ``nms_thr``.

        Returns:
            Indices of the survivors, int64, in descending order of score.

        Args:
            boxes, scores, groups: (n, 4), (n,), (n,) int64; boxes of different groups never suppress each other.
        """
        # float64: torchvision shifts groups apart, which costs float32 boxes digits when there are many groups
        return batched_nms(self.continuous(boxes).double(), scores.double(), groups, nms_thr)

    def from_annotation(self, boxes: Tensor, pixel: float) -> Tensor:
        """Convert ground truth (n, 4) to this convention, with sides of 1 px or more; annotations may be thinner.

        Args:
            boxes: of the data sets, in network pixels; x2 and y2 are inclusive in pixels of the file's image.
            pixel: of the file's image, in network pixels (``scale_factor``).
        """
        end = boxes[:, 2:] if self.legacy else boxes[:, 2:] + pixel
        return torch.cat([boxes[:, :2], torch.maximum(end, boxes[:, :2] + 1)], dim=1)

    def clip(self, boxes: Tensor, shapes: Tensor) -> Tensor:
        """Clamp boxes (B, ..., 4) to images of (h, w) ``shapes`` (B, 2)."""
        limits = (shapes.flip(-1) - self.end).repeat(1, 2).to(boxes)
        return boxes.clamp(min=0).minimum(limits.view(len(shapes), *[1] * (boxes.ndim - 2), 4))


class DeltaCoder:
    """Codes boxes relative to other boxes: shift of the centre in sizes, log ratio of sizes (R-CNN, appendix C).

    Args:
        stds: the four deltas are divided by these.
        convention: of the boxes coded.
    """

    max_log_ratio = math.log(1000 / 16)

    def __init__(self, stds: tuple[float, float, float, float], convention: BoxConvention) -> None:
        self.stds = tuple(stds)
        self.convention = convention
        self._coder = BoxCoder(tuple(1 / std for std in stds), self.max_log_ratio)

    def encode(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """Compute the deltas (n, 4) that move ``boxes`` to ``targets``, both (n, 4) and not empty."""
        return self._coder.encode_single(self.convention.continuous(targets), self.convention.continuous(boxes))

    def decode(self, boxes: Tensor, deltas: Tensor) -> Tensor:
        """Move ``boxes`` (n, 4) by each of their ``deltas`` (n, k·4) → (n, k, 4), not clipped.

        A side grows or shrinks by a factor of at most 1000/16.
        """
        limit = deltas.new_tensor([math.inf, math.inf, *(self.max_log_ratio / std for std in self.stds[2:])])
        deltas = deltas.unflatten(1, (-1, 4))
        deltas = torch.maximum(deltas, -limit).flatten(1)  # torchvision's coder bounds growth only
        decoded = self._coder.decode_single(deltas, self.convention.continuous(boxes))
        return self.convention.from_continuous(decoded.unflatten(1, (-1, 4)))
