"""Highest IoU of each box with the boxes before it, without storing the IoUs of all pairs, on NVIDIA GPUs.

Fast NMS of 40 classes with 200 candidates compares 1.6 million pairs a frame, and PyTorch writes and reads them a dozen
times. See ``docs/benchmarks.md``.
"""
from __future__ import annotations

import torch
from torch import Tensor

from mmdet.ops.device import on_device_of
from mmdet.structures.boxes import pairwise_iou

try:
    from mmdet.ops.prior_overlap.prior_overlap_triton import prior_overlap_kernel
except ImportError:  # no Triton on this platform
    prior_overlap_kernel = None

_BLOCK, _SLICE = 64, 32  # boxes of a program, and earlier boxes with which it compares them at a time


def prior_overlap(bboxes: Tensor) -> Tensor:
    """Compute the highest IoU of each box with those before it: (..., n, 4) → (..., n).

    0 for the first box; NaN if both this and an earlier box are empty. Float32 boxes on a GPU that need no gradient use
    a Triton kernel, all others PyTorch, with the same results to the bit.
    """
    if (prior_overlap_kernel is None or not bboxes.is_cuda or bboxes.dtype != torch.float32
            or torch.is_grad_enabled() or torch.compiler.is_exporting()):
        return pairwise_iou(bboxes).triu(diagonal=1).amax(dim=-2)
    with on_device_of(bboxes):
        return triton_prior_overlap(bboxes.contiguous())


def triton_prior_overlap(bboxes: Tensor) -> Tensor:
    """Compute the same by the kernel, for contiguous boxes."""
    number = bboxes.shape[-2]
    out = bboxes.new_empty(bboxes.shape[:-1])
    # products must not be fused with sums, which would change the last digit
    prior_overlap_kernel[(out.numel() // number, -(-number // _BLOCK))](
        bboxes, out, number, BLOCK=_BLOCK, SLICE=_SLICE, SLICES=-(-number // _SLICE), enable_fp_fusion=False)
    return out
