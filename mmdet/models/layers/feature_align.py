"""Deformable convolution, and feature alignment, whose offsets are computed from predicted boxes.

Used by the SipMask and MemCNP heads (paper section 3.3); the convolution also by CMaskTrack R-CNN's calibration.
"""
from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.models.layers.conv_tower import FusedGroupNorm
from mmdet.ops.deform_conv import deform_conv3x3


class DeformConv3x3(nn.Module):
    """Deformable convolution v1 without bias, padded by 1; its parameter is ``weight``, as in published checkpoints.

    Args:
        in_channels, out_channels: of the feature.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        """Convolve a map.

        Args:
            x: (B, in_channels, h, w).
            offset: (B, 18·groups, h, w), dy, dx in cells of the map for every group and tap.

        Returns:
            (B, out_channels, h, w).
        """
        return deform_conv3x3(x, offset, self.weight)


class FeatureAlign(BaseModule):
    """Offsets from a box map, deformable convolution v1, group norm, ReLU.

    Args:
        in_channels, out_channels: of the feature.
        offset_groups: groups of channels that share offsets.
        num_groups: groups of the norm.
    """

    def __init__(self, in_channels: int, out_channels: int, offset_groups: int = 4, num_groups: int = 32) -> None:
        super().__init__()
        self.conv_offset = nn.Conv2d(4, offset_groups * 2 * 9, 1, bias=False)
        self.conv_offset.keep_float32 = True  # type: ignore[assignment]
        self.conv_adaption = DeformConv3x3(in_channels, out_channels)
        self.norm = FusedGroupNorm(out_channels, num_groups, relu=True)
        nn.init.normal_(self.conv_offset.weight, std=0.01)

    def forward(self, x: Tensor, boxes: Tensor) -> Tensor:
        """Align a feature to predicted boxes.

        Args:
            x: (B, in_channels, h, w).
            boxes: (B, 4, h, w), the box distances of every location in cells of the level.

        Returns:
            (B, out_channels, h, w), non-negative.
        """
        # bfloat16 is not precise enough for sampling positions in pixels
        with torch.autocast(x.device.type, enabled=False):
            offset = self.conv_offset(boxes.float())
        return self.norm(self.conv_adaption(x, offset))
