"""Masks as COCO run-length encodings (RLE): checks, conversions, areas.

An RLE is ``dict(size=[h, w], counts=...)``: run lengths in column-major order, first of zeros then of ones, as a list of integers
or packed into a string. pycocotools' C code trusts what it is given: a string cut off in the middle reads past its end, runs that do not add up to
h * w never return. So whatever comes from a file passes :func:`parse_segmentations` first; the evaluation and the datasets call it.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from mmdet.errors import UserError

# An image of at most this many pixels: every run then fits six characters, whose bits pycocotools' 32-bit shifts hold.
MAX_PIXELS = 2**28
MAX_CHARS_PER_RUN = 6
# the characters after which a run goes on
CONTINUED = bytes(range(80, 112))
# pycocotools allocates 40 bytes for every pixel of a polygon's outline.
MAX_OUTLINE = 2_000_000


def encode_masks(masks: np.ndarray) -> list[dict]:
    """Binary masks to compressed RLE dicts.

    Args:
        masks: (n, h, w), bool or uint8 in {0, 1}.

    Returns:
        n dicts ``size=[h, w]``, ``counts`` bytes.
    """
    if not len(masks):
        return []
    return coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0), dtype=np.uint8))


def decode_masks(rles: Sequence[dict]) -> np.ndarray:
    """At least one trusted RLE (see :func:`parse_segmentations`), all of one size, to (n, h, w) uint8 in {0, 1}."""
    return coco_mask.decode(list(rles)).transpose(2, 0, 1)


def rle_boxes(rles: Sequence[dict]) -> np.ndarray:
    """The smallest boxes around n trusted RLEs: (n, 4) float64 x, y, w, h in pixels; zeros where the mask is empty."""
    return coco_mask.toBbox(list(rles)).reshape(-1, 4) if rles else np.zeros((0, 4))


def parse_segmentations(segmentations: Sequence[Any], height: int, width: int,
                        where: str) -> tuple[list[dict | None], np.ndarray]:
    """Segmentations as annotation and result files hold them, checked and brought to one form.

    Args:
        segmentations: per entry a list of polygons ``[x, y, x, y, ...]``, an RLE with counts as list or string, or None.
        height, width: of the image, in pixels.
        where: what the entries belong to, for the error: ``'result.json: entry 3, field segmentations'``.

    Returns:
        Per entry a canonical compressed RLE (``counts`` bytes) or None, and the areas, (n,) int64 pixels (0 for None).

    Raises:
        UserError: the first entry that is none of these, does not fit the image or whose runs do not add up to it.
    """
    check_image_size(height, width, where)
    rles: list[dict | None] = [None] * len(segmentations)
    packed, packed_at = [], []
    areas = np.zeros(len(segmentations), np.int64)
    for index, segmentation in enumerate(segmentations):
        if segmentation is None or segmentation == []:
            continue
        here = f'{where}[{index}]'
        if isinstance(segmentation, dict):
            counts = _checked_counts(segmentation, height, width, here)
            if isinstance(counts, bytes):
                packed.append(counts)
                packed_at.append(index)
            else:
                areas[index] = counts[1::2].sum()
                rles[index] = _compress(counts, height, width)
        elif isinstance(segmentation, list):
            rles[index] = _polygons_to_rle(segmentation, height, width, here)
            areas[index] = coco_mask.area(rles[index])
        else:
            raise UserError(f'{here} is a {type(segmentation).__name__}; give polygons, an RLE or null')
    if packed:
        canonical, packed_areas = _check_packed(packed, height, width, [f'{where}[{i}]' for i in packed_at])
        areas[packed_at] = packed_areas
        for index, counts in zip(packed_at, canonical):
            rles[index] = dict(size=[height, width], counts=counts)
    return rles, areas


def check_image_size(height: Any, width: Any, where: str) -> None:
    """Raise UserError unless both are positive integers of at most MAX_PIXELS together."""
    if not all(type(side) is int and side > 0 for side in (height, width)) or height * width > MAX_PIXELS:
        raise UserError(f'{where}: image size {height!r} x {width!r} must be positive integers, at most {MAX_PIXELS} pixels')


def _checked_counts(rle: dict, height: int, width: int, where: str) -> bytes | np.ndarray:
    """Counts of an RLE of the right size: a string as bytes, not yet checked, a list as checked canonical (m,) int64."""
    size, counts = rle.get('size'), rle.get('counts')
    if not isinstance(size, (list, tuple)) or list(size) != [height, width]:
        raise UserError(f'{where}: RLE size {size!r} differs from the video\'s [{height}, {width}] (height, width)')
    if isinstance(counts, str):
        if not counts.isascii():
            raise UserError(f'{where}: RLE counts hold characters outside "0" to "o"; encode the mask with pycocotools')
        counts = counts.encode()
    if isinstance(counts, bytes):
        if not counts:
            raise UserError(f'{where}: RLE counts are empty; an empty mask is one run of height * width zeros, or null')
        return counts
    if not isinstance(counts, list) or not all(type(run) is int and 0 <= run <= MAX_PIXELS for run in counts):
        raise UserError(f'{where}: RLE counts must be a string or a list of non-negative integers')
    runs = np.array(counts, np.int64)
    _check_total(int(runs.sum()), height, width, where)
    return _canonical_runs(runs)


def _check_total(total: int, height: int, width: int, where: str) -> None:
    if total != height * width:
        raise UserError(f'{where}: RLE runs add up to {total} pixels, the image has {height} * {width}; the mask is damaged')


def _canonical_runs(runs: np.ndarray) -> np.ndarray:
    """Runs without empty ones inside: pycocotools stops where two masks have an empty run at the same place."""
    if runs[1:].all():
        return runs
    values = np.arange(len(runs)) % 2
    values, runs = values[runs > 0], runs[runs > 0]
    first = np.flatnonzero(np.diff(values, prepend=-1))
    merged = np.add.reduceat(runs, first)
    return np.concatenate([[0], merged]) if values[0] else merged


def _compress(runs: np.ndarray, height: int, width: int) -> dict:
    return coco_mask.frPyObjects(dict(size=[height, width], counts=runs.tolist()), height, width)


def unpack_counts(packed: Sequence[bytes], where: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Run lengths of n packed RLE strings, decoded together.

    A run is written in groups of five bits, lowest first, one character each (48 + bits, + 32 if more follow; the last group's
    top bit is the sign). From the fourth run on, a string holds the difference to the run before last.

    Args:
        packed: n non-empty strings.
        where: n names for the error.

    Returns:
        ``runs`` (rows, 2) int32, the strings one below the other, each padded with a zero to an even number of runs (column 0
        zeros' runs, column 1 ones'), and ``first`` (n,), the row where each string begins.

    Raises:
        UserError: a character outside the range, a string that ends inside a run, a run of too many characters.
    """
    odd = np.array([len(string.translate(None, CONTINUED)) % 2 for string in packed], bool)
    length = np.array([len(string) for string in packed]) + odd
    rows_end = np.cumsum(length)
    chars = np.frombuffer(b''.join([s + b'0' if o else s for s, o in zip(packed, odd)]), np.uint8) - np.uint8(48)
    wrong = chars > 63
    wrong[rows_end - 1 - odd] |= chars[rows_end - 1 - odd] >= 32

    run_end = np.flatnonzero(chars < 32)
    values = (chars[run_end].astype(np.int32) ^ 16) - 16
    before = chars[run_end - 1]
    values = np.where(before >= 32, values * 32 + (before & 31), values)
    longer = np.flatnonzero(before >= 32)
    for place in range(2, MAX_CHARS_PER_RUN + 1):
        before = chars[run_end[longer] - place]
        longer, before = longer[before >= 32], before[before >= 32]
        if place == MAX_CHARS_PER_RUN:
            wrong[run_end[longer]] = True
        values[longer] = values[longer] * 32 + (before & 31)
    if wrong.any():
        culprit = where[int(np.searchsorted(rows_end, np.argmax(wrong), side='right'))]
        raise UserError(f'{culprit}: RLE counts are not a COCO string (bad character or cut off); encode the mask with pycocotools')

    # undo the differences: running sums per column that start anew with each string; the very first run is in no sum.
    # 32-bit sums wrap as pycocotools' do, so both see the same runs whatever the string says.
    rows_end = np.searchsorted(run_end, rows_end) // 2
    first = np.concatenate([[0], rows_end[:-1]])
    differences = values.reshape(-1, 2)
    very_first = differences[first, 0]
    differences[first, 0] = 0
    runs = np.cumsum(differences, axis=0, dtype=np.int32)
    runs -= np.repeat(runs[first] - differences[first], rows_end - first, axis=0)
    runs[first, 0] = very_first
    runs[rows_end[odd] - 1, 1] = 0
    return runs, first


def _check_packed(packed: list[bytes], height: int, width: int, where: list[str]) -> tuple[list[bytes], np.ndarray]:
    """Packed strings that are safe for pycocotools, and their areas (n,)."""
    runs, first = unpack_counts(packed, where)
    totals = np.add.reduceat(runs, first, axis=0, dtype=np.int64)  # (n, 2)
    negative = np.minimum.reduceat(runs, first, axis=0).min(1) < 0
    for index in np.flatnonzero(negative | (totals.sum(1) != height * width)):
        if negative[index]:
            raise UserError(f'{where[index]}: RLE has a negative run; the mask is damaged')
        _check_total(int(totals[index].sum()), height, width, where[index])
    empty = runs == 0
    empty[first, 0] = False
    rows_end = np.append(first[1:], len(runs))
    empty[rows_end - 1, 1] = False  # an empty run at the end does no harm
    if empty.any():
        for index in np.flatnonzero(np.logical_or.reduceat(empty, first, axis=0).any(1)):
            canonical = _canonical_runs(runs[first[index]:rows_end[index]].reshape(-1))
            packed[index] = _compress(canonical, height, width)['counts']
    return packed, totals[:, 1]


def _polygons_to_rle(polygons: list, height: int, width: int, where: str) -> dict:
    """The union of polygons, drawn as pycocotools draws them."""
    outline = 0.
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise UserError(f'{where}: a polygon is a list of at least three points x, y, x, y, x, y')
        if not all(type(value) in (int, float) and abs(value) <= MAX_OUTLINE for value in polygon):
            raise UserError(f'{where}: a polygon\'s coordinates must be numbers of at most {MAX_OUTLINE}')
        points = np.array(polygon, np.float64).reshape(-1, 2)
        outline += np.abs(points - np.roll(points, 1, axis=0)).max(1).sum()
    if outline > MAX_OUTLINE:
        raise UserError(f'{where}: polygons with an outline of {outline:.3g} pixels do not belong to a {width} x {height} image')
    return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
