"""Raw outputs of the MemCNP head, which its losses and its detection have in common.

Symbols: B images, C channels, K classes, H×W padded input, level l of stride s = 8·2^l with an h_l×w_l map, N locations
of all levels, S candidates, μ and σ mean and standard deviation of the distances (l, t, r, b) of a location to the
sides of its box.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmdet.models.task_modules.points import Grid, distance2bbox, gather_rows
from mmdet.ops.device import device_constant
from mmdet.ops.resize import resize

MASK_FACTOR = 4  # upsampling factor from the finest level to the mask map


@dataclass
class CNPOutputs:
    """Raw outputs of the head for a batch of frames.

    Attributes:
        cls_logits: (B, N, K) float32.
        centerness: (B, N) logits, float32.
        means: (B, N, 4) μ in (0, 1): distances l, t, r, b from the location to the sides of the box, relative to the
            size of the image.
        sigmas: (B, N, 4) σ, standard deviations of these distances, at least 0.1.
        coarse_mask: (B, C, H/8, W/8), or (B, C, H/4, W/4) with a sub-pixel convolution; see :attr:`mask`.
        track: (B, C, H/8, W/8).
        ref_track: the track map of the reference frames, in training; else None.
        grid: the locations.
        cls_feats: c, the features of the class tower of each level, (B, C, h_l, w_l).
    """

    cls_logits: Tensor
    centerness: Tensor
    means: Tensor
    sigmas: Tensor
    coarse_mask: Tensor
    track: Tensor
    ref_track: Tensor | None
    grid: Grid
    cls_feats: list[Tensor]

    @property
    def mask_factor(self) -> int:
        """The upsampling factor from the coarse map to the mask map."""
        return MASK_FACTOR * self.grid.level_sizes[0][0] // self.coarse_mask.shape[2]

    @property
    def mask(self) -> Tensor:
        """The mask map (B, C, H/2, W/2): ReLU of the upsampled coarse map."""
        coarse = self.coarse_mask.contiguous(memory_format=torch.channels_last)  # resized faster
        return resize(coarse, self.mask_factor).relu()

    def bboxes(self, index: Tensor | None = None) -> Tensor:
        """Decode boxes x1, y1, x2, y2 in pixels, clamped to the image: (B, N, 4), or those at ``index``, (B, S, 4)."""
        height, width = self.grid.size
        means = self.means if index is None else gather_rows(self.means, index)
        points = self.grid.points if index is None else self.grid.points[index]
        extent = device_constant((width, height) * 2, means.device)
        return distance2bbox(points, means * extent, self.grid.size)
