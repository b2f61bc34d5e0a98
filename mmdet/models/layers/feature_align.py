"""Deformable convolution steered by predicted boxes; a layer of the SipMask and MemCNP heads (paper section 3.3)."""
from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torchvision.ops import deform_conv2d


class _DeformWeight(nn.Module):
    """The weight of a 3×3 deformable convolution without bias, named as the published checkpoints name it."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        # torchvision's operator has no bfloat16 kernel
        with torch.autocast(x.device.type, enabled=False):
            return deform_conv2d(x.float(), offset.float(), self.weight.float(), padding=1).to(x.dtype)


class FeatureAlign(BaseModule):
    """Offsets from a box map, deformable convolution v1, group norm, ReLU.

    Args:
        in_channels, out_channels: of the feature.
        offset_groups: groups of channels with offsets of their own.
        num_groups: of the norm.
    """

    def __init__(self, in_channels: int, out_channels: int, offset_groups: int = 4, num_groups: int = 32) -> None:
        super().__init__()
        self.conv_offset = nn.Conv2d(4, offset_groups * 2 * 9, 1, bias=False)
        self.conv_adaption = _DeformWeight(in_channels, out_channels)
        self.norm = nn.GroupNorm(num_groups, out_channels)
        nn.init.normal_(self.conv_offset.weight, std=0.01)

    def forward(self, x: Tensor, boxes: Tensor) -> Tensor:
        """(B, in, h, w) feature and (B, 4, h, w) box map in cells of the level → (B, out, h, w), non-negative."""
        return self.norm(self.conv_adaption(x, self.conv_offset(boxes))).relu()
