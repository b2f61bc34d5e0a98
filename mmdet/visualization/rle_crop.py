"""The parts of COCO RLE masks that hold their objects, without decoding the rest of the frame.

Called by :mod:`track_visualizer` for every frame. pycocotools can only decode whole masks: at 1280×720
that is about 0.9 ms an object, more than all painting; this takes about 0.1 ms and gives the same pixels
(``tests/visualization``).
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as mask_utils

from mmdet.structures.masks import unpack_counts


def crop_rles(rles: Sequence[dict], margin: int = 0) -> list[tuple[np.ndarray, int, int]]:
    """Decode compressed RLEs around their objects.

    Args:
        rles: ``size`` (H, W) and ``counts`` (bytes or str, or a list of run lengths).
        margin: pixels to keep on each side of an object, as far as the frame has them.

    Returns:
        For each:
        mask: (h, w) uint8 in {0, 1}, C-contiguous rows; (0, 0) where the mask is empty.
        x, y: where its upper left corner lies in the frame.
    """
    if not rles:
        return []
    rles = [mask_utils.frPyObjects(rle, *rle['size']) if isinstance(rle['counts'], list) else rle for rle in rles]
    packed = [rle['counts'] if isinstance(rle['counts'], str) else rle['counts'].decode() for rle in rles]
    # together: with few runs the calls are most of the time
    runs, first = unpack_counts(packed, 'mask', range(len(rles)))
    boxes = mask_utils.toBbox(rles).astype(int).tolist()
    return [_crop(rle, box, counts.reshape(-1), margin)
            for rle, box, counts in zip(rles, boxes, np.split(runs, first[1:]))]


def _crop(rle: dict, box: list[int], counts: np.ndarray, margin: int) -> tuple[np.ndarray, int, int]:
    """One mask from its box x, y, w, h and its run lengths."""
    height, width = rle['size']
    x, y, w, h = box
    if w == 0 or h == 0:
        return np.zeros((0, 0), np.uint8), 0, 0
    left, top = max(x - margin, 0), max(y - margin, 0)
    right, bottom = min(x + w + margin, width), min(y + h + margin, height)
    if (counts[1:-1] == 0).any():  # not the canonical form: edges would cancel out
        return np.ascontiguousarray(mask_utils.decode(rle)[top:bottom, left:right]), left, top

    # Runs go down the columns. A pixel is inside when the edges above it in its column, plus one where a run enters
    # the column from the column before, are odd: an exclusive-or downwards, done for eight columns at once.
    edges = np.cumsum(counts, dtype=np.int64)
    columns = np.arange(left, right)
    padded = -(-len(columns) // 8) * 8
    flips = np.zeros((bottom - top, padded), np.uint8)
    flips[0, :len(columns)] = np.searchsorted(edges, columns * height + top, side='right') & 1
    edge_x, edge_y = np.divmod(edges, height)
    kept = (edge_x >= left) & (edge_x < right) & (edge_y > top) & (edge_y < bottom)
    flips[edge_y[kept] - top, edge_x[kept] - left] = 1
    words = flips.view(np.uint64)
    np.bitwise_xor.accumulate(words, axis=0, out=words)
    return flips[:, :len(columns)], left, top
