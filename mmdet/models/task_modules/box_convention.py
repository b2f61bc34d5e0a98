"""Box operations for both conventions of x2 and y2, implemented only here.

*Continuous* boxes (current convention) have the width x2 - x1. In *legacy* boxes (of weights published before 2020) x2
and y2 are inclusive, and the width is x2 - x1 + 1. Adding 1 to x2 and y2 converts a legacy box to a continuous one, so
that all computations use continuous boxes and torchvision's operators. Called by the RPN head, the RoI heads and the
detectors.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import batched_nms, box_iou

from mmdet.ops.device import device_constant


class BoxConvention:
    """IoU, NMS, clipping and conversion of boxes x1,y1,x2,y2 of one convention.

    Args:
        legacy: x2 and y2 are inclusive.
    """

    def __init__(self, legacy: bool = False) -> None:
        self.legacy = legacy
        self.end = 1.0 if legacy else 0.0

    def continuous(self, boxes: Tensor) -> Tensor:
        """Convert boxes (..., 4) of this convention to continuous ones, x2 - x1 wide."""
        return boxes + self._ends(boxes) if self.legacy else boxes

    def from_continuous(self, boxes: Tensor) -> Tensor:
        """Invert :meth:`continuous`."""
        return boxes - self._ends(boxes) if self.legacy else boxes

    def _ends(self, boxes: Tensor) -> Tensor:
        return device_constant((0.0, 0.0, self.end, self.end), boxes.device).to(boxes.dtype)

    def iou(self, boxes1: Tensor, boxes2: Tensor) -> Tensor:
        """Compute the IoU of every pair: (n, 4), (m, 4) → (n, m)."""
        return box_iou(self.continuous(boxes1), self.continuous(boxes2))

    def nms(self, boxes: Tensor, scores: Tensor, groups: Tensor, nms_thr: float) -> Tensor:
        """Apply non-maximum suppression within each group.

        Args:
            boxes, scores, groups: (n, 4), (n,), (n,) int64; boxes of different groups never suppress each other.
            nms_thr: boxes whose IoU with a kept box of higher score exceeds this are dropped.

        Returns:
            Indices of the kept boxes, int64, in descending order of score.
        """
        # float64, since torchvision adds an offset per group, which reduces the precision of float32 boxes
        return batched_nms(self.continuous(boxes).double(), scores.double(), groups, nms_thr)

    def from_annotation(self, boxes: Tensor, pixel: float) -> Tensor:
        """Convert ground-truth boxes (n, 4) to this convention; x2 − x1 and y2 − y1 become at least 1.

        Args:
            boxes: boxes of a data set, in network pixels; x2 and y2 are inclusive in pixels of the original image.
            pixel: size of a pixel of the original image in network pixels (``scale_factor``).
        """
        end = boxes[:, 2:] if self.legacy else boxes[:, 2:] + pixel
        return torch.cat([boxes[:, :2], torch.maximum(end, boxes[:, :2] + 1)], dim=1)

    def clip(self, boxes: Tensor, shapes: Tensor) -> Tensor:
        """Clamp boxes (B, ..., 4) to images of (h, w) ``shapes`` (B, 2)."""
        limits = (shapes.flip(-1) - self.end).repeat(1, 2).to(boxes)
        return boxes.clamp(min=0).minimum(limits.view(len(shapes), *[1] * (boxes.ndim - 2), 4))


class DeltaCoder:
    """Encode boxes as deltas to other boxes: relative shift of the centre, log ratio of the size (R-CNN, appendix C).

    Args:
        stds: the four deltas are divided by these.
        convention: convention of the boxes.
    """

    max_log_ratio = math.log(1000 / 16)

    def __init__(self, stds: tuple[float, float, float, float], convention: BoxConvention) -> None:
        self.stds = tuple(stds)
        self.convention = convention
        self._weights = tuple(1 / std for std in stds)
        self._lower = (-math.inf, -math.inf, *(-self.max_log_ratio / std for std in stds[2:]))
        self._coder = BoxCoder(self._weights, self.max_log_ratio)

    def encode(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """Compute the deltas (n, 4) from ``boxes`` to ``targets``, both (n, 4) and not empty."""
        return self._coder.encode_single(self.convention.continuous(targets), self.convention.continuous(boxes))

    def decode(self, boxes: Tensor, deltas: Tensor) -> Tensor:
        """Apply the ``deltas`` (n, k·4) to ``boxes`` (n, 4): (n, k, 4), not clipped.

        Width and height change by a factor of at most 1000/16; torchvision's coder limits only their growth, and copies
        constants to the device at each call, which a CUDA graph cannot capture.
        """
        boxes = self.convention.continuous(boxes)
        size = (boxes[:, 2:] - boxes[:, :2])[:, None]
        centre = boxes[:, None, :2] + 0.5 * size
        deltas = torch.maximum(deltas.unflatten(1, (-1, 4)), self._constant(self._lower, deltas))
        deltas = deltas / self._constant(self._weights, deltas)
        centre = deltas[..., :2] * size + centre
        half = 0.5 * (deltas[..., 2:].clamp(max=self.max_log_ratio).exp() * size)
        return self.convention.from_continuous(torch.cat([centre - half, centre + half], dim=-1))

    @staticmethod
    def _constant(values: tuple[float, ...], like: Tensor) -> Tensor:
        return device_constant(values, like.device).to(like.dtype)
