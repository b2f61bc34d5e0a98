"""Decode only the region of a COCO RLE mask that contains its object.

Called by :mod:`track_visualizer` for every frame. pycocotools can only decode whole masks, which takes about 0.9 ms per
object at 1280×720, more than all painting; this takes about 0.1 ms and returns the same pixels
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
        margin: number of pixels to keep on each side of an object, within the frame.

    Returns:
        For each mask:
        mask: (h, w) uint8 in {0, 1}, C-contiguous rows; (0, 0) if the mask is empty.
        x, y: position of its upper left corner in the frame.
    """
    if not rles:
        return []
    rles = [mask_utils.frPyObjects(rle, *rle['size']) if isinstance(rle['counts'], list) else rle for rle in rles]
    packed = [rle['counts'] if isinstance(rle['counts'], str) else rle['counts'].decode() for rle in rles]
    # all at once: with few runs, the overhead of the calls dominates
    runs, first = unpack_counts(packed, 'mask', range(len(rles)))
    boxes = mask_utils.toBbox(rles).astype(int).tolist()
    return [_crop(rle, box, counts.reshape(-1), margin)
            for rle, box, counts in zip(rles, boxes, np.split(runs, first[1:]))]


def _crop(rle: dict, box: list[int], counts: np.ndarray, margin: int) -> tuple[np.ndarray, int, int]:
    """Decode one mask from its box x, y, w, h and its run lengths."""
    height, width = rle['size']
    x, y, w, h = box
    if w == 0 or h == 0:
        return np.zeros((0, 0), np.uint8), 0, 0
    left, top = max(x - margin, 0), max(y - margin, 0)
    right, bottom = min(x + w + margin, width), min(y + h + margin, height)
    if (counts[1:-1] == 0).any():  # not the canonical form: edges would cancel out
        return np.ascontiguousarray(mask_utils.decode(rle)[top:bottom, left:right]), left, top

    # Runs are column-major. A pixel is inside if the number of edges above it in its column, plus one if a run
    # continues from the previous column, is odd: a cumulative exclusive-or along the column, for eight columns at once.
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
