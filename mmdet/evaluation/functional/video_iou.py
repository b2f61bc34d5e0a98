"""Overlap of tracks: intersections and unions are summed over the frames of the video, then divided.

Called by ``evaluate_vis`` for each video and category.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask


def video_mask_iou(predictions: Sequence[Sequence[dict | None]], truths: Sequence[Sequence[dict | None]],
                   prediction_areas: np.ndarray, truth_areas: np.ndarray) -> np.ndarray:
    """Compute the IoU of every predicted and every annotated track of a video.

    A frame with only one of the two tracks adds to the union.

    Args:
        predictions, truths, prediction_areas, truth_areas: see :func:`frame_intersections`.

    Returns:
        (D, G) float64 in [0, 1]; 0 for two tracks without a pixel.
    """
    intersection = frame_intersections(predictions, truths, prediction_areas, truth_areas).sum(0)
    return area_ratio(intersection, prediction_areas.sum(1), truth_areas.sum(1))


def frame_intersections(predictions: Sequence[Sequence[dict | None]], truths: Sequence[Sequence[dict | None]],
                        prediction_areas: np.ndarray, truth_areas: np.ndarray) -> np.ndarray:
    """Count the pixels that every predicted track shares with every annotated track in each frame of a video.

    pycocotools returns the ratio of a pair of masks, not their intersection. For crowds the ratio is intersection /
    area of the prediction; multiplied by that area and rounded it is the exact intersection (areas stay far below
    2**52).

    Args:
        predictions: D tracks of T trusted RLEs of one size (see ``mmdet.structures.masks``) or None.
        truths: G such tracks.
        prediction_areas: (D, T) int, pixels of the masks, 0 for None.
        truth_areas: (G, T) likewise.

    Returns:
        (T, D, G) float64, whole numbers.
    """
    intersection = np.zeros((prediction_areas.shape[1], len(predictions), len(truths)))
    common = (prediction_areas > 0).any(0) & (truth_areas > 0).any(0)
    for frame in np.flatnonzero(common).tolist():
        rows, columns = np.flatnonzero(prediction_areas[:, frame]), np.flatnonzero(truth_areas[:, frame])
        ratio = coco_mask.iou([predictions[row][frame] for row in rows.tolist()],
                              [truths[column][frame] for column in columns.tolist()], [1] * len(columns))
        intersection[frame, rows[:, None], columns] = np.rint(ratio * prediction_areas[rows, frame, None])
    return intersection


def video_box_iou(predictions: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Compute the IoU of tracks of boxes x, y, w, h, zeros where absent: (D, T, 4), (G, T, 4) → (D, G) in [0, 1]."""
    predictions, truths = predictions[:, None], truths[None]
    start = np.maximum(predictions[..., :2], truths[..., :2])
    end = np.minimum(predictions[..., :2] + predictions[..., 2:], truths[..., :2] + truths[..., 2:])
    intersection = (end - start).clip(min=0).prod(-1).sum(-1)
    return area_ratio(intersection, predictions[:, 0, :, 2:].prod(-1).sum(-1), truths[0, :, :, 2:].prod(-1).sum(-1))


def area_ratio(intersection: np.ndarray, prediction_total: np.ndarray, truth_total: np.ndarray) -> np.ndarray:
    """Compute IoU (..., D, G) from intersections (..., D, G) and areas (..., D), (..., G); 0 where the union is 0."""
    union = prediction_total[..., :, None] + truth_total[..., None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
