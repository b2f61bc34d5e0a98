"""Anchors of a feature pyramid; called by the RPN head."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator as TorchvisionAnchorGenerator


class AnchorGenerator(TorchvisionAnchorGenerator):
    """Generate anchors of one size per level and several ratios at every cell, ordered by row, column, ratio.

    Args:
        strides: pixels per cell of each level.
        scale: the side of an anchor of ratio 1 is ``scale * stride``.
        ratios: height / width, at constant area.
        legacy: x2 and y2 are inclusive, and anchors are centred on the mean of the cell's pixel coordinates (MaskTrack
            R-CNN as published); otherwise on the cell's upper left corner. Both are rounded to whole pixels.
    """

    def __init__(self, strides: Sequence[int], scale: float = 8, ratios: Sequence[float] = (0.5, 1.0, 2.0),
                 legacy: bool = False) -> None:
        self.strides = tuple(strides)
        self.legacy = legacy
        self.num_per_cell = len(ratios)
        super().__init__(sizes=tuple((stride * scale,) for stride in strides),
                         aspect_ratios=(tuple(ratios),) * len(strides))
        if legacy:
            sides = torch.tensor(ratios).sqrt()
            self.cell_anchors = [self._legacy_cell(stride, stride * scale / sides, stride * scale * sides)
                                 for stride in strides]

    @staticmethod
    def _legacy_cell(stride: int, widths: Tensor, heights: Tensor) -> Tensor:
        half = torch.stack([widths - 1, heights - 1], dim=1) / 2
        centre = (stride - 1) / 2
        return torch.cat([centre - half, centre + half], dim=1).round()

    def forward(self, feature_maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the anchors of each level, (h_l·w_l·ratios, 4) x1,y1,x2,y2 in network pixels, not clipped.

        Args:
            feature_maps: (B, C, h_l, w_l).
        """
        self.set_cell_anchors(torch.float32, feature_maps[0].device)
        return self.grid_anchors([feature_map.shape[-2:] for feature_map in feature_maps],
                                 [(stride, stride) for stride in self.strides])
