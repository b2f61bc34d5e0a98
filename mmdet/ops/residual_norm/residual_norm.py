"""Layer norm from float32 to half precision, fused with the residual addition before it, for inference under autocast.

Under autocast the residuals of a transformer and its layer norms are float32, and the linear layer after a norm
converts the result: three kernels that move 24 bytes a value. This one moves 12. See ``docs/benchmarks.md``.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet.ops.device import on_device_of

try:
    from mmdet.ops.residual_norm.residual_norm_triton import residual_norm_kernel
except ImportError:  # no Triton on this platform
    residual_norm_kernel = None

_MAX_CHANNELS = 8192  # a row is kept in the registers of a program
_HALF = (torch.bfloat16, torch.float16)


def uses_kernel(residual: Tensor, dtype: torch.dtype) -> bool:
    """Return whether float32 tokens (..., C) are normalised to ``dtype`` by the fused kernel, not by PyTorch.

    It is used on an NVIDIA GPU, for a half-precision ``dtype``, where no gradient is needed.
    """
    return (residual_norm_kernel is not None and residual.is_cuda and residual.dtype == torch.float32 and dtype in _HALF
            and not torch.is_grad_enabled() and not torch.compiler.is_exporting()
            and residual.shape[-1] <= _MAX_CHANNELS)


def layer_norm(residual: Tensor, norm: nn.LayerNorm, dtype: torch.dtype) -> Tensor:
    """Apply ``norm`` to ``residual`` (B, T, C) float32, with statistics in float32; the result has ``dtype``."""
    if not uses_kernel(residual, dtype):
        return _norm(residual, norm).to(dtype)
    with on_device_of(residual):
        return triton_residual_norm(residual, None, norm, dtype)[1]


def add_layer_norm(residual: Tensor, branch: Tensor, norm: nn.LayerNorm,
                   first: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Add the output of a transformer's branch to the residual, and apply the layer norm that follows.

    Args:
        residual: (B, T, C) float32.
        branch: (B, T, C).
        norm: the layer norm, over C.
        first: (C,) replaces the first token of each image in the sum.

    Returns:
        The sum, float32, equal to PyTorch's to the bit, and its norm in the dtype of ``branch``, with statistics in
        float32; both (B, T, C).
    """
    if not uses_kernel(residual, branch.dtype):
        total = residual + branch
        if first is not None:
            total = torch.cat([first.to(total.dtype).expand(len(total), 1, -1), total[:, 1:]], dim=1)
        return total, _norm(total, norm).to(branch.dtype)
    with on_device_of(residual):
        return triton_residual_norm(residual, branch, norm, branch.dtype, first)


def _norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def triton_residual_norm(residual: Tensor, branch: Tensor | None, norm: nn.LayerNorm, dtype: torch.dtype,
                         first: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Compute sum and norm by the fused kernel; without a ``branch``, the sum is ``residual`` itself."""
    residual = residual.contiguous()
    num_tokens, channels = residual.shape[-2:]
    total = residual if branch is None else torch.empty_like(residual)
    normed = torch.empty_like(residual, dtype=dtype)
    block = 1 << (channels - 1).bit_length()
    # unused pointers are those of the residual
    added, replacement = (residual if tensor is None else tensor.contiguous() for tensor in (branch, first))
    residual_norm_kernel[(residual.numel() // channels,)](
        residual, added, replacement, norm.weight, norm.bias, total, normed, num_tokens, channels, norm.eps,
        ADD=branch is not None, FIRST=first is not None, BLOCK=block, num_warps=min(max(block // 256, 1), 8))
    return total, normed
