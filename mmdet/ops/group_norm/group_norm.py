"""Group norm fused with ReLU on channels-last maps, for inference in half precision on NVIDIA GPUs.

PyTorch's group norm works on channels-first maps, fast convolutions on channels-last ones: every map between them is
transposed twice, and the ReLU reads and writes it once more. See ``docs/benchmarks.md``.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.ops.device import on_device_of

try:
    from mmdet.ops.group_norm.group_norm_triton import normalize_kernel, partial_sums_kernel
except ImportError:  # no Triton on this platform
    partial_sums_kernel = None

_VALUES = 8192  # that a program holds at a time
_CHUNKS = 64  # maximum number of programs per image; of each, the second kernel adds the partial sums


def group_norm(x: Tensor, num_groups: int, weight: Tensor, bias: Tensor, eps: float = 1e-5,
               relu: bool = False) -> Tensor:
    """Apply group norm, then ReLU if ``relu``, to ``x`` (B, C, h, w); statistics are computed in float32.

    Half-precision maps on a GPU that need no gradient and whose C is a power of two use the fused kernel, which returns
    a channels-last map; all others use PyTorch's group norm.
    """
    channels = x.shape[1]
    fused = (partial_sums_kernel is not None and x.is_cuda and x.dtype in (torch.bfloat16, torch.float16)
             and not torch.is_grad_enabled() and channels & (channels - 1) == 0)
    if not fused:
        x = F.group_norm(x, num_groups, weight, bias, eps)
        return x.relu() if relu else x
    with on_device_of(x):
        return triton_group_norm(x.contiguous(memory_format=torch.channels_last), num_groups, weight, bias, eps, relu)


def triton_group_norm(x: Tensor, num_groups: int, weight: Tensor, bias: Tensor, eps: float, relu: bool) -> Tensor:
    """Apply group norm, then ReLU if ``relu``, to a channels-last ``x`` (B, C, h, w) by the fused kernels."""
    batch, channels, height, width = x.shape
    positions, block = height * width, max(_VALUES // channels, 1)
    blocks = -(-positions // block)
    steps = 1 << (-(-blocks // _CHUNKS) - 1).bit_length()  # a power of two: a kernel is compiled for each number
    chunks = -(-blocks // steps)
    sums = x.new_empty(batch, chunks, 2, num_groups, dtype=torch.float32)
    partial_sums_kernel[(chunks, batch)](x, sums, positions, chunks, channels, num_groups, STEPS=steps, BLOCK=block,
                                         num_warps=8)
    out = torch.empty_like(x)
    normalize_kernel[(chunks, batch)](x, sums, weight, bias, out, positions, chunks, eps, channels, num_groups,
                                      RELU=relu, STEPS=steps, BLOCK=block, CHUNKS=_CHUNKS, num_warps=8)
    return out
