"""Bringing the levels of a pyramid together; called by the dense heads (FCOS, SipMask, MemCNP).

Symbols: B images, levels l with h_l×w_l maps, each half as large as the one before, N = Σ h_l·w_l locations.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet.ops.resize import resize


def flatten_levels(levels: Sequence[Tensor]) -> Tensor:
    """Maps (B, c, h_l, w_l) → (B, N, c) float32."""
    return torch.cat([level.permute(0, 2, 3, 1).flatten(1, 2) for level in levels], dim=1).float()


def fuse_levels(levels: Sequence[Tensor], conv: nn.Conv2d) -> Tensor:
    """A 1×1 convolution of levels (B, c, h_l, w_l), resized to the first (bilinear), concatenated: (B, out, h_0, w_0).

    The resizing comes after the convolution, with which it commutes: same values, less work.
    """
    fused = 0
    for level, weight in enumerate(conv.weight.chunk(len(levels), dim=1)):
        part = F.conv2d(levels[level], weight, conv.bias if level == 0 else None)
        fused = fused + (part if level == 0 else resize(part, 2 ** level))
    return fused
