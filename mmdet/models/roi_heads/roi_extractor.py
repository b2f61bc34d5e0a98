"""RoIAlign on the pyramid level selected by the size of a region (FPN, section 4.2).

Called by the two-stage detectors.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align

from mmdet.models.task_modules.box_convention import BoxConvention
from mmdet.ops.device import is_capturing


class RoIExtractor:
    """RoIAlign with 2×2 samples per bin.

    torchvision's ``MultiScaleRoIAlign`` does not support ``aligned``, and synchronises with the GPU once per level.

    Args:
        strides: strides of the levels used, each twice the previous one.
        finest_scale: regions with √area below twice this (in pixels) use the first level.
        legacy_boxes: x2 and y2 are inclusive.
        aligned: whether RoIAlign shifts boxes by half a pixel; None: not with ``legacy_boxes``.
    """

    def __init__(self, strides: Sequence[int] = (4, 8, 16, 32), finest_scale: float = 56,
                 legacy_boxes: bool = False, aligned: bool | None = None) -> None:
        self.strides = tuple(strides)
        self.finest_scale = finest_scale
        self.convention = BoxConvention(legacy_boxes)
        self.aligned = not legacy_boxes if aligned is None else aligned

    def levels(self, bboxes: Tensor) -> Tensor:
        """Compute the level (n,) of continuous boxes (n, 4)."""
        area = (bboxes[:, 2] - bboxes[:, 0]) * (bboxes[:, 3] - bboxes[:, 1])
        level = (area.clamp(min=0).sqrt() / self.finest_scale + 1e-6).log2().floor()
        return level.clamp(0, len(self.strides) - 1).long()

    def prepare(self, feats: Sequence[Tensor]) -> list[Tensor]:
        """Convert maps that are pooled several times to contiguous float32, as RoIAlign does at every call."""
        return [feat.float().contiguous() for feat in feats[:len(self.strides)]]

    def __call__(self, feats: Sequence[Tensor], image: Tensor, bboxes: Tensor, size: int) -> Tensor:
        """Pool the features of boxes.

        Args:
            feats: maps (B, C, h_l, w_l); further levels than the extractor's are ignored.
            image: (n,) index of each box's image, 0 to B − 1.
            bboxes: (n, 4) in network pixels.
            size: bins per side.

        Returns:
            (n, C, size, size).
        """
        bboxes = self.convention.continuous(bboxes)
        levels = self.levels(bboxes)
        rois = torch.cat([image[:, None].to(bboxes), bboxes], dim=1)
        if is_capturing():  # the numbers of boxes must be fixed: pool all boxes on each level
            pooled = self._pool(feats[0], rois, size, 0)
            for level in range(1, len(self.strides)):
                chosen = (levels == level)[:, None, None, None]
                pooled = torch.where(chosen, self._pool(feats[level], rois, size, level), pooled)
            return pooled
        levels, order = levels.sort()
        bounds = torch.arange(1, len(self.strides), device=levels.device)
        parts = rois[order].tensor_split(torch.searchsorted(levels, bounds).tolist())
        parts_pooled = [self._pool(feat, part, size, level) for level, (feat, part) in enumerate(zip(feats, parts))]
        return torch.cat(parts_pooled)[order.argsort()]

    def _pool(self, feat: Tensor, rois: Tensor, size: int, level: int) -> Tensor:
        return roi_align(feat, rois, size, 1 / self.strides[level], sampling_ratio=2, aligned=self.aligned)
