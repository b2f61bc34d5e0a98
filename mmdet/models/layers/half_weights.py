"""Weights in half precision for testing under autocast, which would convert them at every use; used by the detectors.

A CUDA graph is captured without autocast's cache of converted weights, so that each replay would convert them again.
"""
from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mmdet.models.layers.feature_align import DeformConv3x3


def halve_weights(module: nn.Module, dtype: torch.dtype) -> None:
    """Convert the weights of convolutions and linear layers in place, those of convolutions to channels-last.

    Modules that compute in float32 under autocast, too (``keep_float32``), are not converted.

    Args:
        module: module in evaluation mode.
        dtype: dtype of autocast.
    """
    if getattr(module, 'keep_float32', False):
        return
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | DeformConv3x3):
        layout: Any = torch.channels_last if module.weight.ndim == 4 else torch.preserve_format
        module.to(dtype=dtype, memory_format=layout)  # type: ignore[call-overload]
    for child in module.children():
        halve_weights(child, dtype)
