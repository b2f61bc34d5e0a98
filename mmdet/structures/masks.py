"""Masks as COCO run-length encodings (RLE): checks, conversions, areas.

An RLE is ``dict(size=[h, w], counts=...)``: run lengths in column-major order, first of zeros then of ones, as a
list of integers or packed into a string. The C code of pycocotools does not check its input: it reads past the end of a
truncated string, and never returns if the runs do not add up to h * w. Therefore everything that is read from a file
is first checked by :func:`parse_segmentations`. An RLE that it has returned, or that pycocotools has encoded, is called
*trusted*.
"""
from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from mmdet.errors import UserError, json_kind

# An image of at most this many pixels: every run then fits six characters, whose bits pycocotools' 32-bit shifts hold.
MAX_PIXELS = 2**28
MAX_CHARS_PER_RUN = 6
# pycocotools allocates 40 bytes for every pixel of a polygon's outline.
MAX_OUTLINE = 2_000_000


def encode_masks(masks: np.ndarray) -> list[dict]:
    """Encode binary masks as compressed RLE dicts.

    Args:
        masks: (n, h, w), bool or uint8 in {0, 1}.

    Returns:
        n dicts ``size=[h, w]``, ``counts`` bytes.
    """
    if not len(masks):
        return []
    return coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0), dtype=np.uint8))


def encode_index_mask(index: np.ndarray) -> dict[int, dict]:
    """Encode each object of an index mask. The memory needed does not depend on the number of objects.

    Args:
        index: (h, w) integers, 0 for the background, elsewhere the number of the object.

    Returns:
        A compressed RLE dict (``counts`` str) for each number except 0, in ascending order.
    """
    height, width = index.shape
    flat = index.T.reshape(-1)  # column-major
    start = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    end = np.append(start[1:], flat.size)
    order = np.argsort(flat[start], kind='stable')
    numbers, first = np.unique(flat[start][order], return_index=True)
    rles = {}
    for number, which in zip(numbers.tolist(), np.split(order, first[1:])):
        if number:
            edges = np.stack([start[which], end[which]], axis=1).reshape(-1)
            runs = np.diff(edges, prepend=0, append=flat.size)
            rles[number] = _compress(runs if runs[-1] else runs[:-1], height, width)
    return rles


def decode_masks(rles: Sequence[dict]) -> np.ndarray:
    """Decode n ≥ 1 trusted RLEs of one size to (n, h, w) uint8 in {0, 1}; the memory layout is column-major."""
    return coco_mask.decode(list(rles)).transpose(2, 0, 1)


def rle_boxes(rles: Sequence[dict]) -> np.ndarray:
    """Compute the bounding boxes of n trusted RLEs: (n, 4) float64 x, y, w, h in pixels; 0 where the mask is empty."""
    return coco_mask.toBbox(list(rles)).reshape(-1, 4) if rles else np.zeros((0, 4))


def parse_segmentations(segmentations: Sequence[Any], height: int, width: int,
                        where: str) -> tuple[list[dict | None], np.ndarray]:
    """Check segmentations of an annotation or result file and convert them to compressed RLE.

    Args:
        segmentations: for each entry a list of polygons ``[x, y, x, y, ...]``, an RLE with counts as list or string, or
            None.
        height, width: size of the image in pixels.
        where: name of the list of entries in messages, such as ``'result.json: entry 3, field segmentations'``.

    Returns:
        For each entry a canonical compressed RLE (``counts`` str; the dict of the file if it is one) or None; and the
        areas (n,) int64 in pixels, 0 for None.

    Raises:
        UserError: an entry is none of these, or does not fit the size of the image; the first one is named.
    """
    check_image_size(height, width, where)
    rles: list[dict | None] = [None] * len(segmentations)
    areas = np.zeros(len(segmentations), np.int64)
    size, packed_at = [height, width], []
    for index, segmentation in enumerate(segmentations):
        if segmentation is None or segmentation == []:
            continue
        if isinstance(segmentation, dict):
            counts = segmentation.get('counts')
            if segmentation.get('size') != size or type(segmentation['size'][0]) is not int:
                raise UserError(f'{where}[{index}]: RLE size {segmentation.get("size")!r:.40} is not the annotation '
                                f'file\'s [height, width] = {size}; do the masks belong to other images?')
            if type(counts) is str and counts and counts.isascii():
                rles[index] = segmentation
                packed_at.append(index)
            else:
                runs = _checked_runs(counts, height, width, f'{where}[{index}]')
                rles[index] = _compress(runs, height, width)
                areas[index] = runs[1::2].sum()
        elif isinstance(segmentation, list):
            rles[index] = _polygons_to_rle(segmentation, height, width, f'{where}[{index}]')
            areas[index] = coco_mask.area(rles[index])
        else:
            raise UserError(f'{where}[{index}] is {json_kind(segmentation)}; give polygons, an RLE or null')
    if packed_at:
        canonical, areas[packed_at] = _check_packed([segmentations[index] for index in packed_at], height, width,
                                                    where, packed_at)
        for index, rle in zip(packed_at, canonical):
            rles[index] = rle
    return rles, areas


def check_image_size(height: Any, width: Any, where: str) -> None:
    """Raise UserError unless both are positive integers whose product is at most MAX_PIXELS."""
    if not all(type(side) is int and side > 0 for side in (height, width)) or height * width > MAX_PIXELS:
        raise UserError(f'{where}: image size {height!r} x {width!r} must be positive integers, at most {MAX_PIXELS} '
                        'pixels')


def _checked_runs(counts: Any, height: int, width: int, where: str) -> np.ndarray:
    """Convert counts given as a list to canonical run lengths (m,) int64."""
    runs = None
    if isinstance(counts, list) and set(map(type, counts)) == {int}:
        with suppress(OverflowError):
            runs = np.array(counts, np.int64)
    if runs is None or runs.min() < 0 or runs.max() > MAX_PIXELS:
        raise UserError(f'{where}: RLE counts must be an ASCII COCO string or a list of non-negative integers')
    _check_total(int(runs.sum()), height, width, where)
    return _canonical_runs(runs)


def _check_total(total: int, height: int, width: int, where: str) -> None:
    if total != height * width:
        raise UserError(f'{where}: RLE runs add up to {total} pixels, the image has {height} * {width}; the mask is '
                        'damaged')


def _canonical_runs(runs: np.ndarray) -> np.ndarray:
    """Remove empty runs, except at the ends: pycocotools stops where two masks have an empty run at the same place."""
    if runs[1:].all():
        return runs
    values = np.arange(len(runs)) % 2
    values, runs = values[runs > 0], runs[runs > 0]
    first = np.flatnonzero(np.diff(values, prepend=-1))
    merged = np.add.reduceat(runs, first)
    return np.concatenate([[0], merged]) if values[0] else merged


def _compress(runs: np.ndarray, height: int, width: int) -> dict:
    return rle_text(coco_mask.frPyObjects(dict(size=[height, width], counts=runs.astype(np.uint32)), height, width))


def rle_text(rle: dict) -> dict:
    """Convert ``counts`` to a string, as JSON needs it; pycocotools returns bytes and accepts both."""
    counts = rle['counts']
    return dict(size=rle['size'], counts=counts.decode() if isinstance(counts, bytes) else counts)


def unpack_counts(packed: Sequence[str], where: str, index: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Decode n packed RLE strings to run lengths, all at once.

    A run is written in groups of five bits, lowest first, one character each (48 + bits, + 32 if more follow; the
    last group's top bit is the sign). From the fourth run on, a string holds the difference to the run before last.

    Args:
        packed: n non-empty ASCII strings.
        where, index: string i is called ``where[index[i]]`` in messages.

    Returns:
        ``runs`` (rows, 2) int32, the run lengths of zeros (column 0) and ones (column 1) of all strings, each padded
        with a zero to an even number of runs; and ``first`` (n,), the first row of each string.

    Raises:
        UserError: a character is out of range, a string ends inside a run, or a run has too many characters.
    """
    chars = np.frombuffer(''.join(packed).encode(), np.uint8) - np.uint8(48)
    string_end = np.cumsum(np.fromiter(map(len, packed), np.int64, len(packed)))
    wrong = chars > 63
    wrong[string_end - 1] |= chars[string_end - 1] >= 32

    run_end = np.flatnonzero(chars < 32)
    values = (chars[run_end].astype(np.int32) ^ 16) - 16
    longer = np.flatnonzero(chars[run_end - 1] >= 32)
    for place in range(1, MAX_CHARS_PER_RUN + 1):
        before = chars[run_end[longer] - place]
        goes_on = before >= 32
        if place > 1:
            longer, before = longer[goes_on], before[goes_on]
        if place == MAX_CHARS_PER_RUN:
            wrong[run_end[longer]] = True
        values[longer] = values[longer] * 32 + (before & 31)
    if wrong.any():
        culprit = index[int(np.searchsorted(string_end, np.argmax(wrong), side='right'))]
        raise UserError(f'{where}[{culprit}]: RLE counts are not a COCO string (bad character or cut off); '
                        'encode the mask with pycocotools')

    runs_end = np.searchsorted(run_end, string_end)  # (n,) in runs
    odd = np.diff(runs_end, prepend=0) % 2 == 1
    rows_end = (runs_end + np.cumsum(odd)) // 2
    first = np.concatenate([[0], rows_end[:-1]])
    # undo the differences: cumulative sums per column that restart at each string, without the first run of a string.
    # 32-bit sums overflow in the same way as those of pycocotools, so both decode the same runs from any string.
    differences = np.insert(values, runs_end[odd], 0).reshape(-1, 2)
    very_first = differences[first, 0]
    differences[first, 0] = 0
    runs = np.cumsum(differences, axis=0, dtype=np.int32)
    runs -= np.repeat(runs[first] - differences[first], rows_end - first, axis=0)
    runs[first, 0] = very_first
    runs[rows_end[odd] - 1, 1] = 0
    return runs, first


def _check_packed(rles: list[dict], height: int, width: int, where: str,
                  index: list[int]) -> tuple[list[dict], np.ndarray]:
    """Check packed RLEs; return RLEs that are safe for pycocotools, and their areas (n,)."""
    runs, first = unpack_counts([rle['counts'] for rle in rles], where, index)
    totals = np.add.reduceat(runs, first, axis=0, dtype=np.int64)  # (n, 2)
    negative = np.minimum.reduceat(runs, first, axis=0).min(1) < 0 if (runs < 0).any() else np.zeros(len(rles), bool)
    for place in np.flatnonzero(negative | (totals.sum(1) != height * width)):
        if negative[place]:
            raise UserError(f'{where}[{index[place]}]: RLE has a negative run; the mask is damaged')
        _check_total(int(totals[place].sum()), height, width, f'{where}[{index[place]}]')
    empty = runs == 0
    empty[first, 0] = False
    rows_end = np.append(first[1:], len(runs))
    empty[rows_end - 1, 1] = False  # an empty run at the end does no harm
    if empty.any():
        for place in np.flatnonzero(np.logical_or.reduceat(empty, first, axis=0).any(1)):
            canonical = _canonical_runs(runs[first[place]:rows_end[place]].reshape(-1))
            rles[place] = _compress(canonical, height, width)
    return rles, totals[:, 1]


def _polygons_to_rle(polygons: list, height: int, width: int, where: str) -> dict:
    """Encode the union of polygons, drawn as pycocotools draws them."""
    outline = 0.
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise UserError(f'{where}: a polygon is a list of at least three points x, y, x, y, x, y')
        if not all(type(value) in (int, float) and abs(value) <= MAX_OUTLINE for value in polygon):
            raise UserError(f'{where}: a polygon\'s coordinates must be numbers of at most {MAX_OUTLINE}')
        points = np.array(polygon, np.float64).reshape(-1, 2)
        outline += np.abs(points - np.roll(points, 1, axis=0)).max(1).sum()
    if outline > MAX_OUTLINE:
        raise UserError(f'{where}: polygons with an outline of {outline:.3g} pixels do not belong to a {width} x '
                        f'{height} image')
    return rle_text(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width)))
