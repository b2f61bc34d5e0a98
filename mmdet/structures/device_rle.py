"""Run-length encoding where the masks are: runs are found on the device, only their ends travel to the host.

Called by the heads' ``predict``. Same result as pycocotools' ``encode``, which needs the whole mask on the host.
"""
from __future__ import annotations

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor


def mask_run_ends(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Where runs end in column-major order: (n, h, w) bool → (which mask, position after the run's last pixel), both (r,) int64.

    The last run's end, h·w, is left out; a mask whose first pixel is set has an end at 0 (its run of zeros is empty).
    """
    flat = masks.transpose(1, 2).flatten(1)
    change = flat.clone()
    change[:, 1:] ^= flat[:, :-1]
    index, position = change.nonzero(as_tuple=True)
    return index, position


def runs_to_rle(index: np.ndarray, position: np.ndarray, num_masks: int, height: int, width: int) -> list[dict]:
    """Compressed COCO RLE dicts (``size``, ``counts`` bytes) of ``num_masks`` masks from :func:`mask_run_ends` on the host."""
    starts = np.searchsorted(index, np.arange(num_masks + 1))
    rles = []
    for first, last in zip(starts[:-1], starts[1:]):
        ends = np.concatenate([[0], position[first:last], [height * width]])
        rles.append(dict(size=[height, width], counts=np.diff(ends).tolist()))
    return coco_mask.frPyObjects(rles, height, width) if rles else []


def masks_to_rle(masks: Tensor) -> list[dict]:
    """(n, h, w) bool masks on any device → n compressed COCO RLE dicts."""
    num_masks, height, width = masks.shape
    index, position = (ends.cpu().numpy() for ends in mask_run_ends(masks))
    return runs_to_rle(index, position, num_masks, height, width)
