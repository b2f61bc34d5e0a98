"""How the predicted tracks of one video relate to its annotated objects, frame by frame.

The first step of the error analysis (docs/error_analysis.md); :mod:`.oracles` mends what is found here.

Symbols: D predicted tracks, G annotated objects, M = D + G + 1 mask sources, T frames, S overlap thresholds of AP.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmdet.evaluation.functional.video_ap import assign_tracks
from mmdet.evaluation.functional.video_iou import area_ratio, frame_intersections
from mmdet.structures.vis_json import Track

TOUCHES = 0.1  # IoU of two masks of a frame from which a track is on an object at all
FINDS = 0.5  # IoU, of masks of a frame or of tracks, from which an object is found


@dataclass
class Relations:
    """The tracks of a video and the objects that they are on.

    A *mask source* is a predicted track (0 ... D - 1), an annotated object (D ... D + G - 1) or the empty mask (last;
    also index -1). A mended track takes its mask of each frame from one of them.

    Attributes:
        scores: (D,), in descending order.
        categories: (D,) category ids. object_categories: (G,) likewise.
        crowd: (G,) bool.
        areas: (M, T) pixels of the mask sources.
        intersections: (T, M, G) pixels that they share with each object.
        iou: (D, G) of whole tracks.
        assigned: (S, D) the object that ``evaluate_vis`` matches each track with; -1: none.
        target: (D,) the object that each track is on; -1: none.
        own: (D, T) bool, frames in which the track is on its target.
        foreign: (D, T) the other object that the track is on in a frame; -1: none.
        cover: (G + 1, T) the track that finds an object best in a frame; -1: none. The last row is -1.
    """

    scores: np.ndarray
    categories: np.ndarray
    object_categories: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    intersections: np.ndarray
    iou: np.ndarray
    assigned: np.ndarray
    target: np.ndarray
    own: np.ndarray
    foreign: np.ndarray
    cover: np.ndarray

    @property
    def missed(self) -> np.ndarray:
        """(G,) bool, objects that no track is on in any frame; crowds are none."""
        objects = np.arange(len(self.crowd))
        return ~(np.isin(objects, self.target) | np.isin(objects, self.foreign) | self.crowd)

    def assign(self, iou: np.ndarray, categories: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Match tracks with objects as ``evaluate_vis`` does.

        Args:
            iou: (U, G). categories, scores: (U,).

        Returns:
            (S, U) as :attr:`assigned`.
        """
        return assign(iou, categories, scores, self.object_categories, self.crowd)


def assign(iou: np.ndarray, categories: np.ndarray, scores: np.ndarray, object_categories: np.ndarray,
           crowd: np.ndarray) -> np.ndarray:
    """Match the tracks of a video with its objects as ``evaluate_vis`` does; all categories in one call.

    Args:
        iou: (U, G). categories, scores: (U,) of the tracks. object_categories, crowd: (G,).

    Returns:
        (S, U) object of each track at each overlap threshold; -1: none.
    """
    order = np.argsort(-scores, kind='stable')
    comparable = np.where(categories[:, None] == object_categories, iou, 0)
    found = assign_tracks(comparable[order], crowd[None], crowd)[0]
    assigned = np.empty_like(found)
    assigned[:, order] = found
    return assigned


def relate(predictions: Sequence[Track], objects: Sequence[Track], length: int) -> Relations:
    """Compare the tracks of one video.

    Args:
        predictions: D tracks with masks, in descending order of score.
        objects: G annotations, crowds among them.
        length: T.
    """
    count = len(predictions)
    tracks = [*predictions, *objects]
    areas = np.zeros((len(tracks) + 1, length), np.int64)
    for row, track in zip(areas, tracks):
        row[:] = track.mask_areas
    intersections = np.zeros((length, len(tracks) + 1, len(objects)))
    if objects:
        intersections[:, :-1] = frame_intersections([track.rles for track in tracks],
                                                    [track.rles for track in objects], areas[:-1], areas[count:-1])
    scores = np.array([track.score for track in predictions])
    categories = np.array([track.category_id for track in predictions], np.int64)
    object_categories = np.array([track.category_id for track in objects], np.int64)
    crowd = np.array([track.crowd for track in objects], bool)
    iou = area_ratio(intersections[:, :count].sum(0), areas[:count].sum(1), areas[count:-1].sum(1))
    # (T, D, G); a track is never on a crowd
    frame_iou = area_ratio(intersections[:, :count], areas[:count].T, areas[count:-1].T) * ~crowd

    assigned = assign(iou, categories, scores, object_categories, crowd)
    target = _targets(np.where((frame_iou >= TOUCHES).any(0), iou, 0), assigned, categories, object_categories, crowd)
    of_target = np.where(target >= 0, _column(frame_iou, target), 0)  # (T, D)
    other = frame_iou * (np.arange(len(objects)) != target[:, None])
    best = _best(other, axis=2, threshold=FINDS)
    foreign = np.where(of_target >= FINDS, -1, best).T
    own = ((of_target >= TOUCHES) & (foreign.T < 0)).T
    cover = np.full((len(objects) + 1, length), -1)
    cover[:-1] = _best(frame_iou, axis=1, threshold=FINDS).T
    return Relations(scores, categories, object_categories, crowd, areas, intersections, iou, assigned, target, own,
                     foreign, cover)


def _targets(iou: np.ndarray, assigned: np.ndarray, categories: np.ndarray, object_categories: np.ndarray,
             crowd: np.ndarray) -> np.ndarray:
    """(D,) the object matched at the lowest threshold, else that of the largest IoU, of ties one of the same category.

    Args:
        iou: (D, G), 0 where the track is nowhere on the object.
        assigned: (S, D). categories: (D,). object_categories, crowd: (G,).
    """
    if not iou.size:
        return np.full(len(iou), -1)
    matched = np.where((assigned >= 0) & ~crowd[assigned], assigned, -1)
    first = np.take_along_axis(matched, (matched >= 0).argmax(0)[None], axis=0)[0]
    largest = iou.max(axis=1, keepdims=True)
    tied = (iou == largest) * (1 + (categories[:, None] == object_categories))
    return np.where(first >= 0, first, np.where(largest[:, 0] > 0, tied.argmax(1), -1))


def _column(frame_iou: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(T, D) of (T, D, G): the overlap with the target; anything where there is none."""
    if not frame_iou.shape[2]:
        return np.zeros(frame_iou.shape[:2])
    return np.take_along_axis(frame_iou, target[None, :, None], axis=2)[..., 0]


def _best(overlap: np.ndarray, axis: int, threshold: float) -> np.ndarray:
    """Index of the largest overlap along an axis, -1 where it is below the threshold."""
    if not overlap.shape[axis]:
        return np.full([size for place, size in enumerate(overlap.shape) if place != axis], -1)
    return np.where(overlap.max(axis) >= threshold, overlap.argmax(axis), -1)
