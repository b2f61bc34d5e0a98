"""Towers of convolutions below the outputs of the dense heads (FCOS, SipMask, MemCNP), and the initial weights."""
from __future__ import annotations

import math

from mmcv.cnn import ConvModule
from torch import nn

from mmdet.models.layers.group_norm import FusedGroupNorm


def conv_tower(channels: int, depth: int, last_relu: bool = True, num_groups: int = 32) -> nn.Sequential:
    """3×3 convolutions without bias, each followed by group norm and ReLU.

    Args:
        channels: of input and output; a multiple of ``num_groups``.
        depth: number of convolutions.
        last_relu: False leaves out the ReLU after the last one.
        num_groups: of the norm.
    """
    return nn.Sequential(*(
        ConvModule(channels, channels, 3, padding=1, bias=False, act_cfg=None,
                   norm_cfg=dict(type=FusedGroupNorm, num_groups=num_groups, relu=last_relu or i < depth - 1))
        for i in range(depth)))


def init_dense_head(head: nn.Module, classifier: nn.Conv2d) -> None:
    """Weights of all convolutions and linear layers N(0, 0.01), biases 0; every class starts at probability 1 %."""
    for module in head.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.constant_(classifier.bias, -math.log(99))
