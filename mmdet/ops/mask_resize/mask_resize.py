"""Masks resized to the original image and thresholded, without storing the resized probabilities on NVIDIA GPUs.

Those of ten objects of a 1280×720 frame take 37 MB, the masks 9 MB. See ``docs/benchmarks.md``.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.ops.device import on_device_of

try:
    from mmdet.ops.mask_resize.mask_resize_triton import mask_resize_kernel
except ImportError:  # no Triton on this platform
    mask_resize_kernel = None

_ROWS, _COLUMNS = 4, 256  # output pixels of a program
_MAX_MASKS = 65535  # of a launch


def mask_resize(masks: Tensor, factor: float, shape: tuple[int, int]) -> Tensor:
    """Resize probabilities by a factor, threshold at ½, then crop or zero-pad at the bottom and the right.

    The factor itself defines the sampling grid; the resized size is rounded down. Rows and columns are treated alike,
    so that the masks may be transposed. Float32 masks on a GPU that need no gradient use a Triton kernel, all others
    PyTorch. Pixels whose probability is ½ up to the rounding of float32 may differ between the two.

    Args:
        masks: (n, h, w) in [0, 1].
        factor: output pixels per input pixel.
        shape: (height, width) of the result.

    Returns:
        (n, height, width) bool.
    """
    if (mask_resize_kernel is not None and masks.is_cuda and masks.dtype == torch.float32
            and not torch.is_grad_enabled() and not torch.compiler.is_exporting() and 0 < len(masks) <= _MAX_MASKS):
        with on_device_of(masks):
            return triton_mask_resize(masks.contiguous(), factor, shape)
    height, width = shape
    resized = F.interpolate(masks[:, None], scale_factor=factor, mode='bilinear', align_corners=False)[:, 0] > 0.5
    resized = resized[:, :height, :width]
    if resized.shape[1:] == shape:
        return resized
    return F.pad(resized, (0, width - resized.shape[2], 0, height - resized.shape[1]))


def triton_mask_resize(masks: Tensor, factor: float, shape: tuple[int, int]) -> Tensor:
    """Compute the same by the kernel, for contiguous masks."""
    number, height, width = masks.shape
    out = masks.new_empty(number, *shape, dtype=torch.bool)
    grid = (-(-shape[1] // _COLUMNS), -(-shape[0] // _ROWS), number)
    mask_resize_kernel[grid](masks, out.view(torch.int8), float(1 / factor), height, width, int(height * factor),
                             int(width * factor), *shape, ROWS=_ROWS, COLUMNS=_COLUMNS)
    return out
