"""Instance masks from coefficients and a shared mask map, at the image's own size; called by the MemCNP head in testing.

Symbols: D detections, C channels, h×w the map (half the input's resolution).
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.models.layers.box_crop import inside_boxes


def resize_and_fit(masks: Tensor, factor: float, shape: tuple[int, int]) -> Tensor:
    """Binary masks of probabilities: resized by a factor, above ½, then cropped or zero-padded at the bottom/right.

    The factor itself defines the sampling grid; the resized size is its floor.

    Args:
        masks: (n, h, w) in [0, 1]. factor: output pixels per input pixel. shape: (height, width) of the result.

    Returns:
        (n, height, width) bool.
    """
    height, width = shape
    resized = F.interpolate(masks[:, None], scale_factor=factor, mode='bilinear', align_corners=False)[:, 0] > 0.5
    resized = resized[:, :height, :width]
    return F.pad(resized, (0, width - resized.shape[2], 0, height - resized.shape[1]))


def coefficient_masks(mask_map: Tensor, coefficients: Tensor, bboxes: Tensor) -> Tensor:
    """Mask probabilities, zero outside the boxes.

    Args:
        mask_map: (B, C, h, w). coefficients: (B, D, C). bboxes: (B, D, 4) in pixels of the map.

    Returns:
        (B, D, h, w) float32 in [0, 1].
    """
    height, width = mask_map.shape[-2:]
    logits = (coefficients.to(mask_map.dtype) @ mask_map.flatten(2)).unflatten(2, (height, width)).float()
    return logits.sigmoid() * inside_boxes(bboxes, height, width)
