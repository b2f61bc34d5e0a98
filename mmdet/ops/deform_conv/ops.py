"""3×3 deformable convolution v1 for the heads: Triton on NVIDIA GPUs, ``grid_sample`` on CPUs, else torchvision's.

With ``torch.use_deterministic_algorithms`` it is computed by indexing on every GPU.

torchvision's operator does not support bfloat16 and samples one channel at a time in float32; that was a third of the
head's time (``docs/benchmarks.md``).

Symbols: B images, C channels in G groups with offsets of their own, O output channels, h×w map, P = B·h·w positions.
"""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import deform_conv2d as torchvision_deform_conv2d

from mmdet.ops.deform_conv.deterministic import deform_conv3x3_deterministic
from mmdet.ops.deform_conv.on_cpu import deform_conv3x3_on_cpu
from mmdet.ops.device import on_device_of

try:
    from mmdet.ops.deform_conv.kernels import sample_backward_kernel, sample_kernel
except ImportError:  # no Triton on this platform
    sample_kernel = None

_BLOCK = 32  # positions per program


def deform_conv3x3(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """Apply a deformable convolution v1, 3×3, stride 1, padding 1, no bias; zero outside the map.

    Args:
        x: (B, C, h, w). offset: (B, 18·G, h, w), per group and tap dy, dx in pixels. weight: (O, C, 3, 3).

    Returns:
        (B, O, h, w) of x's type; under autocast the sampling and the product run in autocast's type, positions in
        float32.
    """
    ordered = x.device.type != 'cpu' and torch.is_grad_enabled() and torch.are_deterministic_algorithms_enabled()
    if sample_kernel is not None and x.is_cuda and not ordered:
        if torch.is_autocast_enabled('cuda'):
            x = x.to(torch.get_autocast_dtype('cuda'))
        return _triton_deform_conv(x, offset.float(), weight.to(x.dtype))
    # neither grid_sample on a CPU nor torchvision's operator has a bfloat16 kernel
    with torch.autocast(x.device.type, enabled=False):
        if x.device.type == 'cpu':
            return deform_conv3x3_on_cpu(x.float(), offset.float(), weight.float()).to(x.dtype)
        if ordered:
            return deform_conv3x3_deterministic(x.float(), offset.float(), weight.float()).to(x.dtype)
        return torchvision_deform_conv2d(x.float(), offset.float(), weight.float(), padding=1).to(x.dtype)


def _launch(kernel: Any, x: Tensor, offset: Tensor, *others: Tensor) -> None:
    """Launch a kernel; x: (B, h, w, C) contiguous; offset: (B, 18·G, h, w) contiguous."""
    batch, height, width, channels = x.shape
    groups = offset.shape[1] // 18
    positions = batch * height * width
    group_channels = channels // groups
    chunk = min(1 << (group_channels - 1).bit_length(), 64)
    grid = (-(-positions // _BLOCK), 9, groups)
    with on_device_of(x):
        kernel[grid](x, offset, *others, positions, height, width, groups, channels, group_channels, BLOCK=_BLOCK,
                     CHUNK=chunk)


@torch.library.custom_op('mmdet::deform_sample', mutates_args=())
def _sample(x: Tensor, offset: Tensor) -> Tensor:
    """(B, h, w, C), (B, 18·G, h, w) → columns (P, 9·C) of x's type."""
    columns = x.new_empty(x.shape[0] * x.shape[1] * x.shape[2], 9 * x.shape[3])
    _launch(sample_kernel, x, offset, columns)
    return columns


@_sample.register_fake
def _(x: Tensor, offset: Tensor) -> Tensor:
    return x.new_empty(x.shape[0] * x.shape[1] * x.shape[2], 9 * x.shape[3])


@torch.library.custom_op('mmdet::deform_sample_backward', mutates_args=())
def _sample_backward(x: Tensor, offset: Tensor, grad_columns: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the gradients of x (float32) and of the offsets (float32)."""
    grad_x = torch.zeros_like(x, dtype=torch.float32)
    grad_offset = torch.empty_like(offset)
    _launch(sample_backward_kernel, x, offset, grad_columns, grad_x, grad_offset)
    return grad_x, grad_offset


@_sample_backward.register_fake
def _(x: Tensor, offset: Tensor, grad_columns: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, dtype=torch.float32), torch.empty_like(offset)


@torch.library.custom_op('mmdet::deform_conv3x3', mutates_args=())
def _deform_conv(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """(B, h, w, C), (B, 18·G, h, w), (9·C, O) → (P, O). The columns are not kept: the backward pass samples again."""
    return _sample(x, offset) @ weight


@_deform_conv.register_fake
def _(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty(x.shape[0] * x.shape[1] * x.shape[2], weight.shape[1])


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, offset, weight = ctx.saved_tensors
    grad_weight = _sample(x, offset).T @ grad
    grad_x, grad_offset = _sample_backward(x, offset, grad @ weight.T)
    return grad_x.to(x.dtype), grad_offset, grad_weight


_deform_conv.register_autograd(_backward, setup_context=_setup_context)


def _triton_deform_conv(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    batch, _, height, width = x.shape
    flat_weight = weight.permute(2, 3, 1, 0).reshape(-1, weight.shape[0])  # (9·C, O), taps first like the columns
    out = _deform_conv(x.permute(0, 2, 3, 1).contiguous(), offset.contiguous(), flat_weight)
    return out.view(batch, height, width, -1).permute(0, 3, 1, 2)
