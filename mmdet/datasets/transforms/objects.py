"""Functions that transforms share for the objects of a frame, which :class:`LoadTrackAnnotations` loads."""
from __future__ import annotations

import cv2
import numpy as np


def mask_areas(masks: np.ndarray) -> np.ndarray:
    """Count the pixels of each mask: (n, h, w) → (n,) int64."""
    return masks.sum(axis=(1, 2), dtype=np.int64)


def warp_masks(masks: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply an affine map (2, 3) to masks (n, h, w) uint8 with nearest-neighbour interpolation and zeros outside."""
    warped = np.empty(masks.shape, np.uint8)
    for mask, target in zip(masks, warped):
        target[:] = cv2.warpAffine(np.ascontiguousarray(mask), matrix, mask.shape[::-1], flags=cv2.INTER_NEAREST)
    return warped


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
