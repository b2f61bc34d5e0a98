"""Find all faults of a YouTube-VIS annotation file, not only the first one; called by tools/check_dataset.py.

Data sets and metrics stop at the first fault that the reader (:mod:`mmdet.structures.vis_json`) finds. This module
reports all of them, and content that the reader accepts but that is probably a mistake. A fault is one line of text
that starts with the entry it was found in.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from mmdet.structures.masks import decode_masks
from mmdet.structures.vis_json import Category, Track, Video, read_annotation_entries

BOX_TOLERANCE = 2.  # pixels between a box and the extents of its mask
_MOST_SLIVERS = 2  # so many slivers in a video are not reported: real objects may be thin


def check_annotations(data: dict, overlap: float = .9) -> Iterator[str]:
    """Yield the faults of the content of an annotation file.

    Args:
        data: content of the file, checked by :func:`~mmdet.structures.vis_json.check_outline`.
        overlap: IoU over the video, in [0, 1], above which two objects are reported as one object annotated twice.
    """
    lengths = {entry['id']: entry.get('length') for entry in data['videos']
               if isinstance(entry, dict) and type(entry.get('id')) is int}
    names: Counter[str] = Counter()
    tracks: dict[int, list[Track]] = {}
    for entry, fault in read_annotation_entries(data):
        if fault:
            yield fault
        elif isinstance(entry, Category):
            names[entry.name] += 1
        elif isinstance(entry, Video):
            yield from _check_video(entry, lengths[entry.id])
        elif isinstance(entry, Track):
            yield from _check_track(entry)
            if not entry.crowd:
                tracks.setdefault(entry.video_id, []).append(entry)
    for name, count in names.items():
        if count > 1:
            yield f'categories: {count} have the name {name!r}'
    for video_id, objects in tracks.items():
        yield from _check_overlaps(video_id, objects, overlap)
        slivers = [track.id for track in objects if _is_sliver(track, objects)]
        if len(slivers) > _MOST_SLIVERS:
            yield (f'video {video_id}: {len(slivers)} of {len(objects)} objects are thin lines along others, such as '
                   f'annotation {slivers[0]}; masks that were resized with interpolation have such numbers: make them '
                   'again with nearest-neighbour interpolation')


def _check_video(video: Video, length: Any) -> Iterator[str]:
    for name, count in Counter(video.file_names).items():
        if count > 1:
            yield f'video {video.id}: {name!r} is listed {count} times'
    if length not in (None, video.length):
        yield f'video {video.id}: length is {length!r:.40}, but there are {video.length} file_names'


def _check_track(track: Track) -> Iterator[str]:
    where = f'annotation {track.id}'
    if not any(track.rles):
        yield f'{where}: is in no frame'
    masks = np.array([rle is not None for rle in track.rles], bool)
    for frame in np.flatnonzero(masks & (track.mask_areas == 0)).tolist():
        yield f'{where}, segmentations[{frame}]: the mask is empty; null says that the object is not visible'
    for frame in np.flatnonzero(masks & (track.areas <= 0) & (track.mask_areas > 0)).tolist():
        yield f'{where}, areas[{frame}]: is {track.areas[frame]:g}, but there is a mask'
    if track.boxes is None:
        return
    extents = track.mask_boxes()
    for frame, (box, extent) in enumerate(zip(track.boxes.tolist(), extents.tolist())):
        here = f'{where}, bboxes[{frame}]'
        if not any(box):
            if masks[frame]:
                yield f'{here}: is null, but there is a mask'
        elif box[2] <= 0 or box[3] <= 0:
            yield f'{here}: {box} has no area'
        elif track.mask_areas[frame]:
            gap = np.abs(_corners(box) - _corners(extent)).max()
            if gap > BOX_TOLERANCE:
                yield f'{here}: {box} is {gap:.0f} pixels off the mask\'s extents {extent}'


def _corners(box: list[float]) -> np.ndarray:
    x, y, w, h = box
    return np.array([x, y, x + w, y + h])


def _check_overlaps(video_id: int, objects: Sequence[Track], limit: float) -> Iterator[str]:
    """Yield a fault for each pair of objects whose masks have an IoU over the video above the limit."""
    count = len(objects)
    shared, areas = np.zeros((count, count)), np.zeros(count)
    for frame in range(len(objects[0].rles)):
        shown = [index for index, track in enumerate(objects) if track.rles[frame] is not None]
        masks = [objects[index].rles[frame] for index in shown]
        if masks:
            area = coco_mask.area(masks).astype(float)
            iou = coco_mask.iou(masks, masks, [0] * len(masks))
            shared[np.ix_(shown, shown)] += iou * (area[:, None] + area) / (1 + iou)
            areas[shown] += area
    union = areas[:, None] + areas - shared
    overlap = np.triu(shared / np.maximum(union, 1), 1)
    for first, second in np.argwhere(overlap > limit).tolist():
        yield (f'annotations {objects[first].id} and {objects[second].id}: in video {video_id} '
               f'their masks have an IoU of {overlap[first, second]:.0%}; is it one object with two ids?')


def _is_sliver(track: Track, objects: Sequence[Track]) -> bool:
    """Return whether an object is less than 3 pixels wide and touches others with most of its pixels in every frame."""
    frames = np.flatnonzero(track.mask_areas)
    square = np.ones((3, 3), np.uint8)
    if not len(frames) or len(objects) <= _MOST_SLIVERS:
        return False
    outline = 2 * (track.mask_boxes()[:, 2] + track.mask_boxes()[:, 3])
    if (track.mask_areas[frames] > 2 * outline[frames]).any():  # most objects need not be decoded
        return False
    for frame in frames.tolist():
        own = track.rles[frame]
        others = [other.rles[frame] for other in objects if other is not track and other.mask_areas[frame]]
        if own is None or not others:
            return False
        mask, union = decode_masks([own, coco_mask.merge(others)])
        if cv2.erode(mask, square).any():
            return False
        if 2 * np.count_nonzero(mask & cv2.dilate(union, square)) < np.count_nonzero(mask):
            return False
    return True
