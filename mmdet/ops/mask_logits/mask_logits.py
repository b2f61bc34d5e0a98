"""Mask logits for inference: mask coefficients times the upsampled mask map, which is never stored.

The map of one frame, 256 channels at half resolution, takes 50 MB in bfloat16, but only one logit per pixel and
detection (at most ten) is needed. See ``docs/benchmarks.md``.
"""
from __future__ import annotations

import torch
from torch import Tensor

from mmdet.ops.device import on_device_of
from mmdet.ops.resize import resize

try:
    from mmdet.ops.mask_logits.mask_logits_triton import mask_logits_kernel
except ImportError:  # no Triton on this platform
    mask_logits_kernel = None

_BLOCK, _CHUNK = 32, 64
_FACTORS = (2, 4)  # of the kernel


def mask_logits(coarse: Tensor, coefficients: Tensor, factor: int) -> Tensor:
    """Compute coefficients · ReLU(``coarse`` upsampled bilinearly by ``factor``).

    Half-precision maps on a GPU and a factor of 2 or 4 use a Triton kernel; all others use PyTorch.

    Args:
        coarse: (B, C, h, w) mask map.
        coefficients: (B, D, C), for D detections per image.
        factor: upsampling factor.

    Returns:
        (B, D, factor·h, factor·w) float32.
    """
    num_detections = coefficients.shape[1]
    coarse = coarse.contiguous(memory_format=torch.channels_last)  # resized faster
    fused = (mask_logits_kernel is not None and coarse.is_cuda and coarse.dtype in (torch.bfloat16, torch.float16)
             and factor in _FACTORS and num_detections > 0)
    if not fused:
        fine = resize(coarse, factor).relu_()
        logits = coefficients.to(fine.dtype) @ fine.flatten(2)
        return logits.unflatten(2, fine.shape[-2:]).float()
    with on_device_of(coarse):
        return triton_mask_logits(coarse, coefficients.to(coarse.dtype).contiguous(), factor)


def triton_mask_logits(coarse: Tensor, coefficients: Tensor, factor: int) -> Tensor:
    """Compute the same by the kernel, for a channels-last map and contiguous coefficients of its dtype."""
    batch, channels, height, width = coarse.shape
    num_detections = coefficients.shape[1]
    out = coarse.new_empty(batch, num_detections, factor * height, factor * width, dtype=torch.float32)
    grid = (-(-factor * height * (width + 1) // _BLOCK), batch)
    slots = max(16, 1 << (num_detections - 1).bit_length())  # tl.dot needs at least 16 columns, a power of two
    mask_logits_kernel[grid](coarse, coefficients, out, height, width, num_detections, channels, FACTOR=factor,
                             DETECTIONS=slots, BLOCK=_BLOCK, CHUNK=_CHUNK)
    return out
