"""Spatial correlation in plain PyTorch: the fallback without compiled kernels, and the reference of the tests.

One vectorised step per patch cell and kernel tap; sums are float32, or float64 for float64 inputs.
spatial_correlation.py registers these three functions as the operator's kernels on devices without a compiled one.
"""
from collections.abc import Sequence

import torch
from torch import Tensor

from .correlation_axes import axes, output_shape


def _accumulable(*tensors: Tensor) -> list[Tensor]:
    return [t if t.dtype == torch.float64 else t.float() for t in tensors]


def correlation(input1: Tensor, input2: Tensor, *parameters: Sequence[int]) -> Tensor:
    """Sum the products of input1 and shifted input2 over channels and kernel taps; differentiable by autograd.

    Args:
        input1: (N, C, h, w).
        input2: (N, C, h, w), same dtype.
        *parameters: kernel_size, patch_size, stride, padding, dilation, dilation_patch, each (vertical, horizontal).

    Returns:
        (N, P_h, P_w, oH, oW) in the inputs' dtype.
    """
    vertical, horizontal = axes(*parameters)
    a, b = _accumulable(input1, input2)
    out = a.new_zeros(output_shape(input1.shape, vertical, horizontal))
    columns = list(horizontal.terms(input1.shape[3]))
    for ph, y, r1, r2 in vertical.terms(input1.shape[2]):
        for pw, x, s1, s2 in columns:
            out[:, ph, pw, y, x] += (a[:, :, r1, s1] * b[:, :, r2, s2]).sum(1)
    return out.to(input1.dtype)


def correlation_grad_input1(grad_output: Tensor, input2: Tensor, *parameters: Sequence[int]) -> Tensor:
    """Compute the gradient of `correlation` with respect to input1, (N, C, h, w)."""
    vertical, horizontal = axes(*parameters)
    grad, b = _accumulable(grad_output, input2)
    result = torch.zeros_like(b, memory_format=torch.contiguous_format)
    columns = list(horizontal.terms(b.shape[3]))
    for ph, y, r1, r2 in vertical.terms(b.shape[2]):
        for pw, x, s1, s2 in columns:
            result[:, :, r1, s1] += grad[:, None, ph, pw, y, x] * b[:, :, r2, s2]
    return result.to(input2.dtype)


def correlation_grad_input2(grad_output: Tensor, input1: Tensor, *parameters: Sequence[int]) -> Tensor:
    """Compute the gradient of `correlation` with respect to input2, (N, C, h, w)."""
    vertical, horizontal = axes(*parameters)
    grad, a = _accumulable(grad_output, input1)
    result = torch.zeros_like(a, memory_format=torch.contiguous_format)
    columns = list(horizontal.terms(a.shape[3]))
    for ph, y, r1, r2 in vertical.terms(a.shape[2]):
        for pw, x, s1, s2 in columns:
            result[:, :, r2, s2] += grad[:, None, ph, pw, y, x] * a[:, :, r1, s1]
    return result.to(input1.dtype)
