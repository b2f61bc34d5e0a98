"""Concatenation and fusion of the levels of a pyramid; called by the dense heads (FCOS, SipMask, MemCNP).

Symbols: B images, levels l with h_l×w_l maps, each half as large as the one before, N = Σ h_l·w_l locations.
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

    Computed as the sum of each level's own convolution, resized after it: the two commute, same values, less work.
    """
    first, *coarser = conv.weight.chunk(len(levels), dim=1)
    fused = F.conv2d(levels[0], first, conv.bias)
    for level, weight in enumerate(coarser, start=1):
        fused = fused + resize(F.conv2d(levels[level], weight), 2 ** level)
    return fused
