"""Run-length encoding on the device of the masks; only the ends of the runs are copied to the host.

Called by the heads in testing. The result equals that of pycocotools' ``encode``, which needs all masks on the host.

Symbols: n masks of h×w pixels, r ends of runs of all masks.
"""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_PIXELS_AT_ONCE = 2 ** 25


def run_changes(columns: Tensor) -> Tensor:
    """Mark the pixels that differ from the previous one in column-major order; the first is compared with zero.

    Args:
        columns: (n, w, h) bool, the masks transposed.

    Returns:
        (n, w·h) bool. Its size does not depend on the values, so it needs no synchronisation with the GPU.
    """
    flat = columns.flatten(1)
    changes = torch.empty_like(flat)
    changes[:, :1] = flat[:, :1]
    torch.bitwise_xor(flat[:, 1:], flat[:, :-1], out=changes[:, 1:])
    return changes


def changes_to_rle(changes: Tensor, height: int, width: int) -> list[dict]:
    """Encode the (n, w·h) output of :func:`run_changes` as n compressed RLE dicts ``size=[h, w]``, ``counts`` bytes."""
    flat = changes.view(-1)
    # on a CPU, NumPy finds the few ends among many pixels six times faster than PyTorch
    ends = flat.nonzero().squeeze(1).cpu().numpy() if flat.is_cuda else np.flatnonzero(flat.numpy())
    return _encode(ends, len(changes), height, width)


def masks_at_once(height: int, width: int) -> int:
    """Return how many masks of a size to make and encode at once, at least 1: this bounds memory for any image size."""
    return max(_PIXELS_AT_ONCE // (height * width), 1)


def masks_to_rle(masks: Tensor) -> list[dict]:
    """Encode (n, h, w) bool masks on any device as n compressed COCO RLE dicts."""
    return changes_to_rle(run_changes(masks.transpose(1, 2)), *masks.shape[1:])


def _encode(ends: np.ndarray, num_masks: int, height: int, width: int) -> list[dict]:
    """Encode the ends (r,) of the runs, ascending positions in the n concatenated masks, as compressed RLE."""
    if num_masks == 0:
        return []
    borders = np.arange(1, num_masks + 1) * (height * width)
    # the last run of a mask ends at its border, before a change at the first pixel of the next
    at = np.searchsorted(ends, borders)
    counts = np.diff(np.insert(ends, at, borders), prepend=0)  # run lengths of all masks
    last = at + np.arange(1, num_masks + 1)  # one past the runs of each mask
    first = np.concatenate([[0], last[:-1]])
    rank = np.arange(len(counts)) - np.repeat(first, last - first)  # of the run in its mask
    values = counts.copy()
    values[2:] -= np.where(rank[2:] > 2, counts[:-2], 0)
    text, length = _pack(values)
    offsets = np.concatenate([[0], np.cumsum(length)])
    return [dict(size=[height, width], counts=text[offsets[start]:offsets[stop]]) for start, stop in zip(first, last)]


def _pack(values: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Pack signed integers as COCO does, five bits a character; return the text and the characters of each value."""
    magnitude = np.where(values < 0, ~values, values)
    length = np.ones(len(values), np.int64)
    limit = 16  # the highest of a character's five bits is the sign
    while (longer := magnitude >= limit).any():
        length += longer
        limit *= 32
    start = np.cumsum(length) - length
    text = np.empty(int(length.sum()), np.uint8)
    todo = np.arange(len(values))
    for digit in range(int(length.max(initial=0))):
        todo = todo[length[todo] > digit]
        more = length[todo] > digit + 1
        text[start[todo] + digit] = ((values[todo] >> 5 * digit) & 31) + 48 + 32 * more
    return text.tobytes(), length
