"""Overlaps of the tracks of one video, category by category, with few calls of pycocotools.

Called by ``score_tracks``. Symbols: D predictions and G annotations of one category, T frames.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mmdet.evaluation.functional.video_ap import IOU_THRESHOLDS
from mmdet.evaluation.functional.video_iou import video_box_iou, video_mask_iou
from mmdet.structures.vis_json import Track

# The overhead of a call of pycocotools equals the time to compare about so many pairs of masks (measured; a pair takes
# 0.4 to 1.2 µs), so categories with few pairs share a call.
_PAIRS_PER_CALL = 12


def overlaps(categories: Sequence[tuple[list[Track], list[Track]]], metric: str) -> list[np.ndarray]:
    """Compute the IoU of predicted and annotated tracks of a video.

    Args:
        categories: predictions and annotations of each category.
        metric: ``'segm'`` or ``'bbox'``.

    Returns:
        A (D, G) float64 matrix in [0, 1] for each category. Pairs of masks whose areas alone imply an IoU below the
        lowest threshold of the evaluation may be left out; their entries are 0.
    """
    found = [np.zeros((len(predictions), len(truths))) for predictions, truths in categories]
    if metric == 'bbox':
        return [video_box_iou(_boxes(predictions), _boxes(truths)) if overlap.size else overlap
                for (predictions, truths), overlap in zip(categories, found)]
    batch = _IoUBatch()
    for (predictions, truths), overlap in zip(categories, found):
        if not overlap.size:
            continue
        possible = _highest_iou(_areas(predictions), _areas(truths)) >= IOU_THRESHOLDS[0]
        rows, columns = np.flatnonzero(possible.any(1)), np.flatnonzero(possible.any(0))
        if not batch.has_room_for(len(rows), len(columns)):
            batch.flush()
            batch = _IoUBatch()
        batch.predictions += [predictions[row] for row in rows]
        batch.truths += [truths[column] for column in columns]
        batch.targets.append((overlap, rows, columns))
    batch.flush()
    return found


@dataclass
class _IoUBatch:
    """A batch of categories whose masks are compared in one call; it also compares masks of different categories."""

    predictions: list[Track] = field(default_factory=list)
    truths: list[Track] = field(default_factory=list)
    targets: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)

    def has_room_for(self, predictions: int, truths: int) -> bool:
        return len(self.predictions) * truths + len(self.truths) * predictions <= _PAIRS_PER_CALL

    def flush(self) -> None:
        """Compute the overlaps and write them to the matrices of the categories."""
        if not self.predictions:
            return
        iou = video_mask_iou([track.rles for track in self.predictions], [track.rles for track in self.truths],
                             _areas(self.predictions), _areas(self.truths))
        row = column = 0
        for overlap, rows, columns in self.targets:
            overlap[rows[:, None], columns] = iou[row:row + len(rows), column:column + len(columns)]
            row, column = row + len(rows), column + len(columns)


def _highest_iou(predictions: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Compute the IoU if the smaller mask of each frame were inside the larger one: areas (D, T), (G, T) → (D, G)."""
    intersection = np.stack([np.minimum(areas, truths).sum(1) for areas in predictions])
    union = predictions.sum(1)[:, None] + truths.sum(1) - intersection
    return intersection / np.maximum(union, 1)


def _areas(tracks: list[Track]) -> np.ndarray:
    """Stack the areas of the masks: (n, T)."""
    return np.stack([track.mask_areas for track in tracks])


def _boxes(tracks: list[Track]) -> np.ndarray:
    """Stack the boxes: (n, T, 4). All tracks have boxes, as the caller has checked."""
    return np.stack([track.boxes for track in tracks if track.boxes is not None])
