"""3×3 deformable convolution v1 for the heads.

Computed by Triton kernels on NVIDIA GPUs, by ``grid_sample`` on CPUs, and by torchvision's operator elsewhere. With
``torch.use_deterministic_algorithms``, gradients on a GPU are computed by indexing.

torchvision's operator does not support bfloat16 and samples one channel at a time in float32, which took a third of the
head's time (``docs/benchmarks.md``).

Symbols: B images, C input channels, G offset groups, O output channels, h×w map, P = B·h·w positions.
"""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import deform_conv2d as torchvision_deform_conv2d

from mmdet.ops.deform_conv.deform_conv_cpu import deform_conv3x3_cpu, deform_conv3x3_export
from mmdet.ops.deform_conv.deform_conv_deterministic import deform_conv3x3_deterministic
from mmdet.ops.device import on_device_of

try:
    from mmdet.ops.deform_conv.deform_conv_triton import sample_backward_kernel, sample_kernel
except ImportError:  # no Triton on this platform
    sample_kernel = None

_BLOCK = 32  # positions per program


def deform_conv3x3(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """Apply a 3×3 deformable convolution v1 with stride 1, padding 1 and no bias. Samples outside the map are zero.

    Args:
        x: (B, C, h, w).
        offset: (B, 18·G, h, w), dy, dx in pixels for every group and tap.
        weight: (O, C, 3, 3).

    Returns:
        (B, O, h, w) in x's dtype. Under autocast on NVIDIA GPUs, sampling and product use autocast's dtype; sampling
        positions are always float32.
    """
    exporting = torch.compiler.is_exporting()
    deterministic = x.device.type != 'cpu' and torch.is_grad_enabled() and torch.are_deterministic_algorithms_enabled()
    if sample_kernel is not None and x.is_cuda and not deterministic and not exporting:
        if torch.is_autocast_enabled('cuda'):
            x = x.to(torch.get_autocast_dtype('cuda'))
        return triton_deform_conv(x, offset.float(), weight.to(x.dtype))
    # neither grid_sample on a CPU nor torchvision's operator has a bfloat16 kernel
    with torch.autocast(x.device.type, enabled=False):
        if exporting:
            return deform_conv3x3_export(x.float(), offset.float(), weight.float()).to(x.dtype)
        if x.device.type == 'cpu':
            return deform_conv3x3_cpu(x.float(), offset.float(), weight.float()).to(x.dtype)
        if deterministic:
            return deform_conv3x3_deterministic(x.float(), offset.float(), weight.float()).to(x.dtype)
        return torchvision_deform_conv2d(x.float(), offset.float(), weight.float(), padding=1).to(x.dtype)


def _launch(kernel: Any, x: Tensor, offset: Tensor, *others: Tensor) -> None:
    """Launch a kernel for contiguous x (B, h, w, C) and offset (B, 18·G, h, w)."""
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
    """Sample x (B, h, w, C) at offset (B, 18·G, h, w) into columns (P, 9·C) of x's dtype."""
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
    """Convolve x (B, h, w, C), offset (B, 18·G, h, w), weight (9·C, O) to (P, O).

    The columns are not saved for the backward pass, which samples them again.
    """
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


def triton_deform_conv(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """Apply the convolution by the Triton kernels; arguments and result as of :func:`deform_conv3x3`."""
    batch, _, height, width = x.shape
    flat_weight = weight.permute(2, 3, 1, 0).reshape(-1, weight.shape[0])  # (9·C, O), ordered as the columns
    out = _deform_conv(x.permute(0, 2, 3, 1).contiguous(), offset.contiguous(), flat_weight)
    return out.view(batch, height, width, -1).permute(0, 3, 1, 2)
