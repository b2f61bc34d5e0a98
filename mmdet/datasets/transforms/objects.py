"""Functions that transforms share for the objects of a frame, which :class:`LoadTrackAnnotations` loads."""
from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np


def mask_areas(masks: np.ndarray) -> np.ndarray:
    """Count the pixels of each mask: (n, h, w) → (n,) int64."""
    return masks.sum(axis=(1, 2), dtype=np.int64)


def warp_masks(masks: np.ndarray, matrix: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
    """Apply an affine map (2, 3) to masks (n, h, w) uint8 with nearest-neighbour interpolation and zeros outside.

    Args:
        masks: not modified.
        matrix: map from pixels x, y, 1 of the masks to pixels x, y of the result.
        size: height and width of the result; None: those of the masks.
    """
    height, width = size or masks.shape[1:]
    warped = np.empty((len(masks), height, width), np.uint8)
    for mask, target in zip(masks, warped):
        cv2.warpAffine(np.ascontiguousarray(mask), matrix, (width, height), dst=target, flags=cv2.INTER_NEAREST)
    return warped


def warp_image(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int] | None = None,
               fill: Sequence[float] | None = (0, 0, 0)) -> np.ndarray:
    """Apply an affine map (2, 3) to an image (h, w, 3) with bilinear interpolation.

    Outside is the colour ``fill``, with which pixels at the border are blended; None: the nearest pixel of the image.
    """
    height, width = size or image.shape[:2]
    border = {'borderMode': cv2.BORDER_REPLICATE} if fill is None else {'borderValue': tuple(fill)}
    return cv2.warpAffine(np.ascontiguousarray(image), matrix, (width, height), flags=cv2.INTER_LINEAR, **border)


def mask_extents(masks: np.ndarray) -> np.ndarray:
    """Compute the boxes of masks, x2 and y2 inclusive: (n, h, w) → (n, 4) float32 x1, y1, x2, y2; 0 where empty."""
    columns: np.ndarray = np.logical_or.reduce(masks, axis=1)
    rows: np.ndarray = np.logical_or.reduce(masks, axis=2)
    last_x, last_y = (side.shape[1] - 1 - side[:, ::-1].argmax(axis=1) for side in (columns, rows))
    boxes = np.stack([columns.argmax(axis=1), rows.argmax(axis=1), last_x, last_y], axis=1)
    return (boxes * np.logical_or.reduce(columns, axis=1)[:, None]).astype(np.float32)


def keep_objects(frame: dict, chosen: np.ndarray) -> None:
    """Remove all objects of a frame but the chosen ones, (n,) bool."""
    for name in ('gt_bboxes', 'gt_labels', 'gt_instances_id', 'gt_masks'):
        frame[name] = frame[name][chosen]


def replace_masks(frame: dict, masks: np.ndarray, least: int | np.ndarray = 1) -> None:
    """Replace the masks and boxes of the objects of a frame, and remove objects with too few pixels.

    Args:
        frame: modified.
        masks: (n, h, w) uint8.
        least: smallest number of pixels of an object that is kept, for all or (n,) for each; at least 1.
    """
    frame.update(gt_masks=masks, gt_bboxes=mask_extents(masks))
    keep_objects(frame, mask_areas(masks) >= np.maximum(least, 1))
