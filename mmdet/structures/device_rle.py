"""Run-length encoding of all masks of a clip at once, on the device where they are.

Called by the heads in testing. On a GPU, only the ends of the runs are copied to the host; on a CPU, they are searched
in blocks that fit the cache. The strings are pycocotools'; its ``encode`` would need all masks on the host, and takes
several times as long.

Symbols: n masks of h×w pixels, r ends of runs of all masks.
"""
from __future__ import annotations

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

_PIXELS_AT_ONCE = 2 ** 25
_BLOCK = 2 ** 17  # pixels compared at once on a CPU: one byte each, so that two blocks fit the cache of a core


def masks_at_once(height: int, width: int) -> int:
    """Return how many masks of a size to make and encode at once, at least 1: this bounds memory for any image size."""
    return max(_PIXELS_AT_ONCE // (height * width), 1)


def masks_to_rle(masks: Tensor) -> list[dict]:
    """Encode (n, h, w) bool masks on any device as n compressed RLE dicts ``size=[h, w]``, ``counts`` bytes."""
    if masks.is_cuda:
        return columns_to_rle(masks.transpose(1, 2))
    return ends_to_rle(_ends_on_cpu(masks.contiguous().numpy()), *masks.shape)


def columns_to_rle(columns: Tensor) -> list[dict]:
    """Encode transposed masks (n, w, h) bool, whose memory has the order of the runs; see :func:`masks_to_rle`."""
    num_masks, width, height = columns.shape
    pixels = columns.flatten(1)
    ends = _ends_on_gpu(pixels) if pixels.is_cuda else _ends_on_cpu(pixels[..., None].contiguous().numpy())
    return ends_to_rle(ends, num_masks, height, width)


def _ends_on_gpu(pixels: Tensor) -> np.ndarray:
    """Return the positions (r,) of the pixels that differ from the previous one of their mask, ascending.

    Args:
        pixels: (n, w·h) bool, in the order of the runs. Positions count the pixels of all masks. The first pixel of a
            mask is compared with zero.
    """
    return _changes(pixels).nonzero().squeeze(1).cpu().numpy()


def _changes(pixels: Tensor) -> Tensor:
    """Return which pixels (n·w·h,) differ from the previous one of their mask."""
    changes = torch.empty_like(pixels, memory_format=torch.contiguous_format)
    # all masks as one row, which a GPU processes faster than many rows; then the first pixels again
    flat = pixels.reshape(-1)
    torch.bitwise_xor(flat[1:], flat[:-1], out=changes.view(-1)[1:])
    changes[:, :1] = pixels[:, :1]
    return changes.view(-1)


def fixed_ends(columns: Tensor, capacity: int) -> Tensor:
    """Find the ends of the runs without synchronising with the GPU, for :func:`ends_to_rle`.

    Args:
        columns: transposed masks (n, w, h) bool, fewer than 2³¹ pixels.
        capacity: maximum number of ends.

    Returns:
        (1 + capacity,) int32: the number of all ends, then the first ``capacity`` positions, padded arbitrarily.
    """
    before = _changes(columns.flatten(1)).cumsum(0, dtype=torch.int32)
    wanted = torch.arange(1, capacity + 1, dtype=torch.int32, device=columns.device)
    return torch.cat([before[-1:], torch.searchsorted(before, wanted, out_int32=True)])


def _ends_on_cpu(masks: np.ndarray) -> np.ndarray:
    """Return the same positions for masks (n, h, w) bool.

    Most of the time is that of memory: large arrays are neither allocated nor transposed. A pixel is compared with the
    one above it, and one of the first row with the last one of the column before.
    """
    num_masks, height, width = masks.shape
    flat = masks.reshape(-1).view(np.uint8)
    changes = np.empty(_BLOCK, np.uint8)
    ends = [np.zeros(0, np.int64)]
    for start in range(width, len(flat), _BLOCK):
        block = flat[start:start + _BLOCK]
        np.bitwise_xor(block, flat[start - width:start - width + len(block)], out=changes[:len(block)])
        ends.append(np.flatnonzero(changes[:len(block)].view(bool)) + start)
    mask, place = np.divmod(np.concatenate(ends), height * width)
    y, x = np.divmod(place, width)
    below = y > 0
    before = np.zeros((num_masks, width), bool)
    before[:, 1:] = masks[:, -1, :-1]
    first_mask, first_x = np.nonzero(masks[:, 0] != before)
    return np.sort(np.concatenate([(mask * width + x)[below] * height + y[below],
                                   (first_mask * width + first_x) * height]))


def ends_to_rle(ends: np.ndarray, num_masks: int, height: int, width: int) -> list[dict]:
    """Encode n masks of equal size by the ends of their runs.

    Args:
        ends: (r,) ascending positions, int, of the pixels that differ from the previous one of their mask, in the n
            concatenated masks in column-major order. The first pixel of a mask is compared with zero.
        num_masks, height, width: n and the size of a mask.

    Returns:
        n compressed RLE dicts ``size=[h, w]``, ``counts`` bytes.
    """
    if num_masks == 0:
        return []
    borders = np.arange(1, num_masks + 1) * (height * width)
    # the last run of a mask ends at its border, before a change at the first pixel of the next
    at = np.searchsorted(ends, borders)
    runs = np.diff(np.insert(ends, at, borders), prepend=0).astype(np.uint32)
    size = [height, width]
    of_masks = np.split(runs, (at + np.arange(1, num_masks + 1))[:-1])
    return coco_mask.frPyObjects([dict(size=size, counts=counts) for counts in of_masks], height, width)
