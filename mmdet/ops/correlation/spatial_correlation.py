"""Registration of the spatial correlation operator: schema, kernels, fake kernels, autograd, autocast.

csrc/ registers the compiled kernels for CPU and CUDA with TORCH_LIBRARY. On a device without one, the kernel is plain
PyTorch (correlation_reference.py), chosen by registration and logged at its first call. correlation_axes.py defines
which terms are summed. Called by CMaskTrack R-CNN's calibration in training and in testing.
"""
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmdet.errors import UserError

from . import correlation_reference
from .compiled_library import REMEDY, UNAVAILABLE
from .correlation_axes import axes, output_shape

logger = logging.getLogger(__name__)

_PARAMETERS = ('int[2] kernel_size, int[2] patch_size, int[2] stride, int[2] padding, int[2] dilation, '
               'int[2] dilation_patch')
_SCHEMAS = {
    'spatial_correlation': 'Tensor input1, Tensor input2',
    'spatial_correlation_grad_input1': 'Tensor grad_output, Tensor input2',
    'spatial_correlation_grad_input2': 'Tensor grad_output, Tensor input1',
}
_DTYPES = {torch.float64, torch.float32, torch.float16, torch.bfloat16}
_library = torch.library.Library('memcnp', 'FRAGMENT')


@functools.cache
def _log_fallback(device_type: str) -> None:
    reason = UNAVAILABLE or (f'has no {device_type.upper()} kernels; {REMEDY} on a machine with a '
                             f'{device_type.upper()} compiler')
    logger.warning('spatial correlation uses plain PyTorch, which is slower: the compiled operator %s.', reason)


def _fallback(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Wrap `function` as a kernel of the operator, below autograd, that logs its first call on each type of device."""

    @functools.wraps(function)
    def kernel(a: Tensor, b: Tensor, *parameters: Sequence[int]) -> Tensor:
        _log_fallback(a.device.type)
        with torch.no_grad():
            return function(a, b, *parameters)

    return kernel


for _name, _function in zip(_SCHEMAS, (correlation_reference.correlation, correlation_reference.correlation_grad_input1,
                                       correlation_reference.correlation_grad_input2)):
    if UNAVAILABLE:
        _library.define(f'{_name}({_SCHEMAS[_name]}, {_PARAMETERS}) -> Tensor')
    # The kernels of csrc/ are registered for a device and take precedence over this one.
    _library.impl(_name, _fallback(_function), 'CompositeExplicitAutograd')


@torch.library.register_fake('memcnp::spatial_correlation', lib=_library)
def _(input1: Tensor, input2: Tensor, *parameters: Sequence[int]) -> Tensor:
    return input1.new_empty(output_shape(input1.shape, *axes(*parameters)))


@torch.library.register_fake('memcnp::spatial_correlation_grad_input1', lib=_library)
@torch.library.register_fake('memcnp::spatial_correlation_grad_input2', lib=_library)
def _(grad_output: Tensor, other: Tensor, *parameters: Sequence[int]) -> Tensor:
    return other.new_empty(other.shape)


def _setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
    input1, input2, *ctx.parameters = inputs
    need1, need2 = ctx.needs_input_grad[:2]
    ctx.save_for_backward(input1 if need2 else None, input2 if need1 else None)


def _backward(ctx: Any, grad_output: Tensor) -> tuple:
    input1, input2 = ctx.saved_tensors
    grad1 = grad2 = None
    if ctx.needs_input_grad[0]:
        grad1 = torch.ops.memcnp.spatial_correlation_grad_input1(grad_output, input2, *ctx.parameters)
    if ctx.needs_input_grad[1]:
        grad2 = torch.ops.memcnp.spatial_correlation_grad_input2(grad_output, input1, *ctx.parameters)
    return grad1, grad2, *(None for _ in ctx.parameters)


def _refuse_second_derivative(ctx: Any, grad_output: Tensor) -> tuple:
    raise NotImplementedError('spatial correlation is differentiable once; a second derivative (create_graph=True, '
                              'double backward) is not available')


torch.library.register_autograd('memcnp::spatial_correlation', _backward, setup_context=_setup_context, lib=_library)
for _name in ('spatial_correlation_grad_input1', 'spatial_correlation_grad_input2'):
    torch.library.register_autograd(f'memcnp::{_name}', _refuse_second_derivative, lib=_library)
# Like torch.sum and torch.cdist, the operator runs in float32 under autocast: the sum over the channels is not
# normalised, so that 256 channels of values around 16 already overflow float16.
for _device_type in ('cpu', 'cuda'):
    torch.library.register_autocast('memcnp::spatial_correlation', _device_type, torch.float32, lib=_library)


def _pair(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(pair) != 2 or not all(isinstance(v, int) for v in pair):
        raise UserError(f'spatial correlation: {name} must be an int or a pair of ints (vertical, horizontal), '
                        f'got {value!r}')
    return pair


def spatial_correlation_sample(
    input1: Tensor,
    input2: Tensor,
    kernel_size: int | Sequence[int] = 1,
    patch_size: int | Sequence[int] = 1,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    dilation_patch: int | Sequence[int] = 1,
) -> Tensor:
    """Correlate every window of `input1` with the windows of `input2` around the same position.

    The windows are shifted by dilation_patch · (p − floor((P − 1)/2)) pixels for patch cell p, so an even patch reaches
    one step further right and down than left and up. Products are summed in float32 for every dtype except float64, and
    not divided by the number of channels. Under autocast the operator runs in float32. Differentiable once in both
    inputs.

    Each parameter is an int or a pair (vertical, horizontal).

    Args:
        input1: (N, C, h, w), float64, float32, float16 or bfloat16; need not be contiguous; N and C may be 0.
        input2: same shape, dtype and device.
        kernel_size: size of a window, in taps.
        patch_size: number of shifts P_h, P_w.
        stride: step between window positions in input1, in pixels.
        padding: zeros around both inputs, in pixels.
        dilation: distance between the taps of a window, in pixels.
        dilation_patch: distance between shifts, in pixels.

    Returns:
        (N, P_h, P_w, oH, oW), o = floor((in + 2·padding − (kernel_size − 1)·dilation − 1) / stride) + 1.

    Raises:
        UserError: if shapes, dtypes or devices of the inputs differ, or a parameter is out of range.
    """
    parameters = [_pair(name, value) for name, value in (
        ('kernel_size', kernel_size), ('patch_size', patch_size), ('stride', stride), ('padding', padding),
        ('dilation', dilation), ('dilation_patch', dilation_patch))]
    output_shape(input1.shape, *axes(*parameters))
    if input1.shape != input2.shape:
        raise UserError(f'spatial correlation: inputs differ in shape: {tuple(input1.shape)} and {tuple(input2.shape)}')
    if input1.device != input2.device:
        raise UserError(f'spatial correlation: inputs are on {input1.device} and {input2.device}')
    if not {input1.dtype, input2.dtype} <= _DTYPES:
        raise UserError('spatial correlation: inputs must be float64, float32, float16 or bfloat16, '
                        f'got {input1.dtype} and {input2.dtype}')
    if input1.dtype != input2.dtype and not (torch.is_autocast_enabled(input1.device.type)
                                             and torch.float64 not in (input1.dtype, input2.dtype)):
        raise UserError(f'spatial correlation: inputs are {input1.dtype} and {input2.dtype}; convert one of them')
    return torch.ops.memcnp.spatial_correlation(input1, input2, *parameters)


class SpatialCorrelationSampler(nn.Module):
    """Module of :func:`spatial_correlation_sample` with fixed parameters; see there for parameters and errors."""

    def __init__(
        self,
        kernel_size: int | Sequence[int] = 1,
        patch_size: int | Sequence[int] = 1,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        dilation_patch: int | Sequence[int] = 1,
    ) -> None:
        super().__init__()
        self.parameters_by_name = {name: _pair(name, value) for name, value in (
            ('kernel_size', kernel_size), ('patch_size', patch_size), ('stride', stride), ('padding', padding),
            ('dilation', dilation), ('dilation_patch', dilation_patch))}

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        """Correlate two inputs (N, C, h, w) to (N, P_h, P_w, oH, oW)."""
        return spatial_correlation_sample(input1, input2, **self.parameters_by_name)

    def extra_repr(self) -> str:
        return ', '.join(f'{name}={value}' for name, value in self.parameters_by_name.items())
