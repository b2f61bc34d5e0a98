"""Bilinear resizing of feature maps in their own dtype and, on a GPU, in the channels-last memory format."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def resize(x: Tensor, factor: float) -> Tensor:
    """Resize (B, c, h, w) to (B, c, ⌊factor·h⌋, ⌊factor·w⌋), bilinear, align_corners=False, without autocast."""
    if x.is_cuda:
        # The CUDA kernel for channels-last maps is many times faster. A single image may match both memory formats, so
        # that PyTorch would treat it as channels-first: copy=True writes channels-last strides.
        x = x.to(memory_format=torch.channels_last, copy=len(x) == 1)
    if torch.compiler.is_exporting():  # the same, with sizes that stay integers if they are symbolic
        sides = [side * int(factor) if factor >= 1 else side // int(1 / factor) for side in x.shape[-2:]]
        return F.interpolate(x, sides, mode='bilinear', align_corners=False)
    with torch.autocast(x.device.type, enabled=False):
        return F.interpolate(x, scale_factor=float(factor), mode='bilinear', align_corners=False)
