"""From mask probabilities of a batch of frames to COCO RLE of each frame's own size; called by the one-stage heads."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmdet.models.layers.coefficient_masks import resize_and_fit
from mmdet.structures import DetDataSample
from mmdet.structures.device_rle import masks_to_rle

MASK_STRIDE = 2  # pixels of the input per pixel of the mask maps


def encode_frame_masks(masks: Tensor, counts: Sequence[int], frames: Sequence[DetDataSample]) -> list[list[dict]]:
    """RLE of the first masks of each frame; frames of equal geometry are done together.

    Args:
        masks: (B, D, h, w) probabilities at half the input's resolution.
        counts: B numbers of masks.
        frames: B samples; ``scale_factor`` and ``ori_shape`` are read.

    Returns:
        B lists of compressed COCO RLE dicts.
    """
    rles: list[list[dict]] = [[] for _ in frames]
    groups: dict[tuple, list[int]] = {}
    for i, frame in enumerate(frames):
        groups.setdefault((frame.scale_factor, tuple(frame.ori_shape[:2])), []).append(i)
    for (scale, shape), members in groups.items():
        chosen = torch.cat([masks[i, :counts[i]] for i in members])
        if len(chosen):
            encoded = iter(masks_to_rle(resize_and_fit(chosen, MASK_STRIDE / scale, shape)))
            for i in members:
                rles[i] = [next(encoded) for _ in range(counts[i])]
    return rles
