"""Positions of the terms of a spatial correlation along one axis, and checks of the parameters.

Output position y, kernel tap i and patch cell p select the input positions

    r1 = y * stride - padding + i * dilation    in input1
    r2 = r1 + dilation_patch * (p - centre)     in input2, centre = floor((patch - 1) / 2)

and a term is included only if both lie inside the input. csrc/geometry.h is the same in C++. Called by
spatial_correlation.py and correlation_reference.py.
"""
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mmdet.errors import UserError


class Axis(NamedTuple):
    """Parameters of the operator along one axis: kernel and patch in cells, all others in pixels of the input."""

    kernel: int
    patch: int
    stride: int
    padding: int
    dilation: int
    dilation_patch: int

    def output_size(self, size: int) -> int:
        """Return the length of the output for an input of length `size`; less than 1 if the kernel does not fit."""
        return (size + 2 * self.padding - (self.kernel - 1) * self.dilation - 1) // self.stride + 1

    def terms(self, size: int) -> Iterator[tuple[int, slice, slice, slice]]:
        """Iterate over all pairs of a patch cell and a kernel tap that have terms inside an input of length `size`.

        Yields:
            The patch cell, and three slices with corresponding elements: of the output, of input1 and of input2.
        """
        for p in range(self.patch):
            shift = self.dilation_patch * (p - (self.patch - 1) // 2)
            for i in range(self.kernel):
                offset = i * self.dilation - self.padding  # r1 = y * stride + offset
                first = max(0, -(-(max(0, -shift) - offset) // self.stride))
                last = min(self.output_size(size) - 1, (min(size, size - shift) - 1 - offset) // self.stride)
                if first <= last:
                    begin, end = first * self.stride + offset, last * self.stride + offset + 1
                    yield (p, slice(first, last + 1), slice(begin, end, self.stride),
                           slice(begin + shift, end + shift, self.stride))


def axes(*parameters: Sequence[int]) -> tuple[Axis, Axis]:
    """Return the vertical and the horizontal axis of (kernel_size, patch_size, …, dilation_patch), each a pair."""
    vertical, horizontal = zip(*parameters)
    return Axis(*vertical), Axis(*horizontal)


def output_shape(shape: Sequence[int], vertical: Axis, horizontal: Axis) -> tuple[int, int, int, int, int]:
    """Return the output shape (N, P_h, P_w, oH, oW) for inputs of shape (N, C, h, w).

    Raises:
        UserError: the inputs are not four-dimensional, a parameter is out of range, or the kernel does not fit.
    """
    if len(shape) != 4:
        raise UserError(f'spatial correlation: inputs must be (N, C, h, w), got shape {tuple(shape)}')
    for name, axis, size in (('height', vertical, shape[2]), ('width', horizontal, shape[3])):
        if min(axis.kernel, axis.patch, axis.stride, axis.dilation, axis.dilation_patch) < 1 or axis.padding < 0:
            raise UserError('spatial correlation: kernel_size, patch_size, stride, dilation and dilation_patch must be '
                            f'at least 1 and padding at least 0, got {axis}')
        if axis.output_size(size) < 1:
            raise UserError(f'spatial correlation: input {name} {size} with padding {axis.padding} is smaller than the '
                            f'kernel {axis.kernel} with dilation {axis.dilation}; pad the input or shrink the kernel')
    return (shape[0], vertical.patch, horizontal.patch,
            vertical.output_size(shape[2]), horizontal.output_size(shape[3]))
