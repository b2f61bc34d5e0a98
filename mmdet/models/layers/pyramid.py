"""Concatenation and fusion of the levels of a pyramid; called by the dense heads (FCOS, SipMask, MemCNP).

Symbols: B images, levels l with h_l×w_l maps, each half the size of the previous one, N = Σ h_l·w_l locations.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet.ops.resize import resize


def flatten_levels(levels: Sequence[Tensor]) -> Tensor:
    """Concatenate maps (B, c, h_l, w_l) to (B, N, c) float32."""
    return torch.cat([level.permute(0, 2, 3, 1).flatten(1, 2) for level in levels], dim=1).float()


def fuse_levels(levels: Sequence[Tensor], conv: nn.Conv2d) -> Tensor:
    """Resize levels (B, c, h_l, w_l) to the first, concatenate, apply a 1×1 convolution: (B, out, h_0, w_0).

    Computed as a sum of convolutions of each level, resized afterwards: resizing and a 1×1 convolution commute, so that
    the values are the same, with less computation.
    """
    first, *coarser = conv.weight.chunk(len(levels), dim=1)
    fused = F.conv2d(levels[0], first, conv.bias)
    for level, weight in enumerate(coarser, start=1):
        fused = fused + resize(F.conv2d(levels[level], weight), 2 ** level)
    return fused
