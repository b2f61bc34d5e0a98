"""Mask logits: coefficients times an upsampled map that is never stored, for inference.

The full map of a frame, 256 channels at half resolution, is 50 MB in bfloat16, and only ten numbers per pixel are
needed. See ``docs/benchmarks.md``.
"""
from __future__ import annotations

import torch
from torch import Tensor

from mmdet.ops.device import on_device_of
from mmdet.ops.resize import resize

try:
    from mmdet.ops.mask_logits.kernels import mask_logits_kernel
except ImportError:  # no Triton on this platform
    mask_logits_kernel = None

_BLOCK, _CHUNK = 64, 64


def mask_logits(coarse: Tensor, coefficients: Tensor, factor: int) -> Tensor:
    """Compute coefficients · ReLU(coarse upsampled bilinearly by ``factor``).

    Args:
        coarse: (B, C, h, w). coefficients: (B, D, C).

    Returns:
        (B, D, factor·h, factor·w) float32.
    """
    batch, channels, height, width = coarse.shape
    num_detections = coefficients.shape[1]
    coarse = coarse.contiguous(memory_format=torch.channels_last)  # the fast layout for resizing
    half = coarse.dtype in (torch.bfloat16, torch.float16)
    if mask_logits_kernel is None or not coarse.is_cuda or not half or num_detections == 0:
        fine = resize(coarse, factor).relu_()
        logits = coefficients.to(fine.dtype) @ fine.flatten(2)
        return logits.unflatten(2, fine.shape[-2:]).float()
    out = coarse.new_empty(batch, num_detections, factor * height, factor * width, dtype=torch.float32)
    grid = (-(-factor * height * factor * width // _BLOCK), batch)
    slots = max(16, 1 << (num_detections - 1).bit_length())  # tensor cores take at least sixteen columns
    with on_device_of(coarse):
        mask_logits_kernel[grid](coarse, coefficients.to(coarse.dtype).contiguous(), out, height, width, num_detections,
                                 channels, FACTOR=factor, DETECTIONS=slots, BLOCK=_BLOCK, CHUNK=_CHUNK)
    return out
