"""Instance masks from coefficients and a shared mask map, at the image's own size.

Called by the one-stage heads in testing.

Symbols: D detections, C channels, h×w the mask map (half the input's resolution).
"""
from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mmdet.models.layers.box_crop import inside_boxes
from mmdet.ops.mask_logits import mask_logits


def resize_and_fit(masks: Tensor, factor: float, shape: tuple[int, int]) -> Tensor:
    """Binary masks of probabilities: resized by a factor, above ½, then cropped or zero-padded at the end.

    The factor itself defines the sampling grid; the resized size is its floor. Rows and columns are treated alike, so
    the masks may be transposed.

    Args:
        masks: (n, h, w) in [0, 1]. factor: output pixels per input pixel. shape: (height, width) of the result.

    Returns:
        (n, height, width) bool.
    """
    height, width = shape
    resized = F.interpolate(masks[:, None], scale_factor=factor, mode='bilinear', align_corners=False)[:, 0] > 0.5
    resized = resized[:, :height, :width]
    if resized.shape[1:] == shape:
        return resized
    return F.pad(resized, (0, width - resized.shape[2], 0, height - resized.shape[1]))


def coefficient_masks(coarse_map: Tensor, coefficients: Tensor, bboxes: Tensor) -> Tensor:
    """Mask probabilities, zero outside the boxes.

    Args:
        coarse_map: (B, C, h/4, w/4), the mask map before its upsampling. coefficients: (B, D, C).
        bboxes: (B, D, 4) in pixels of the mask map.

    Returns:
        (B, D, h, w) float32.
    """
    logits = mask_logits(coarse_map, coefficients, 4)
    return logits.sigmoid() * inside_boxes(bboxes, *logits.shape[-2:])
