"""Every fault of a YouTube-VIS annotation file and its images, not only the first; for tools/check_dataset.py.

The data sets stop at the first fault (:mod:`mmdet.datasets.packed_annotations`); this goes on. A fault is one line that
starts with the entry it is in: ``annotation 12, segmentations[3]: ...``.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from pycocotools import mask as coco_mask

from mmdet.datasets.transforms.loading import BadFrameError, read_frame
from mmdet.errors import UserError
from mmdet.structures.masks import check_image_size, parse_segmentations, rle_boxes

BOX_TOLERANCE = 2.  # pixels between a box and the extents of its mask


def check_annotations(data: dict, overlap: float = .9) -> Iterator[str]:
    """Faults of the content of an annotation file.

    Args:
        data: its content; the lists ``videos`` and ``categories`` are there.
        overlap: two objects are one annotated twice if their masks' IoU over the video exceeds this, 0–1.
    """
    yield from _check_entries(data['categories'], 'categories')
    yield from _check_entries(data['videos'], 'videos')
    annotations = data.get('annotations') or []
    yield from _check_entries(annotations, 'annotations')
    yield from _check_categories(_objects(data['categories']))
    lengths: dict[Any, tuple[int, int, int]] = {}
    for video in _objects(data['videos']):
        yield from _check_video(video)
        if _is_usable(video) and type(video.get('id')) is int:
            lengths[video['id']] = (len(video['file_names']), video['height'], video['width'])
    known_videos, known_categories = _known(data['videos']), _known(data['categories'])
    tracks: dict[Any, list[tuple[dict, list[dict | None]]]] = {}
    for annotation in _objects(annotations):
        where = f'annotation {annotation.get("id")}'
        category_id, video_id = annotation.get('category_id'), annotation.get('video_id')
        if type(category_id) is not int or category_id not in known_categories:
            yield f'{where}: category_id {str(category_id)[:60]} is not among the categories'
        if type(video_id) is not int or video_id not in known_videos:
            yield f'{where}: video_id {str(video_id)[:60]} is not among the videos'
        elif video_id in lengths:
            rles: list[dict | None] = []
            yield from _check_track(annotation, where, *lengths[video_id], rles)
            if rles and not annotation.get('iscrowd'):
                tracks.setdefault(video_id, []).append((annotation, rles))
    for video_id, objects in tracks.items():
        yield from _check_overlaps(video_id, objects, overlap)


def check_images(video: dict, folder: Path, decode: bool) -> list[str]:
    """Faults of a video's image files: missing, of another size, damaged.

    Args:
        video: its entry in the file.
        folder: what ``file_names`` start from.
        decode: read all pixels, which finds cut-off files; otherwise only the sizes in the files' headers are read.
    """
    faults: list[str] = []
    if not _is_usable(video):
        return faults
    for name in video['file_names']:
        if not _is_path(name):
            continue
        path, size = folder / name, (video['width'], video['height'])
        try:
            if decode:
                read_frame(str(path), video['height'], video['width'])
            else:
                _check_header(path, size)
        except BadFrameError as error:
            faults.append(f'video {video["id"]}: {error}')
    return faults


def _check_header(path: Path, size: tuple[int, int]) -> None:
    try:
        with Image.open(path) as image:
            found = image.size
    except FileNotFoundError:
        raise BadFrameError(f'the image {path} is missing') from None
    except (OSError, UnidentifiedImageError):
        raise BadFrameError(f'the image {path} is damaged or no image') from None
    if found != size and found != size[::-1]:  # turned by an EXIF orientation: the loader sees to it
        raise BadFrameError(f'the image {path} has {found[0]}x{found[1]} pixels, the annotation file says '
                            f'{size[0]}x{size[1]}')


def _objects(entries: Sequence[Any]) -> list[dict]:
    return [entry for entry in entries if isinstance(entry, dict)]


def _known(entries: Sequence[Any]) -> set[int]:
    return {entry['id'] for entry in _objects(entries) if type(entry.get('id')) is int}


def _check_entries(entries: Sequence[Any], name: str) -> Iterator[str]:
    """Each entry is an object with an integer id of its own."""
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict) or type(entry.get('id')) is not int:
            yield f'{name}[{index}]: needs an integer id'
    counts = Counter(entry.get('id') for entry in _objects(entries) if type(entry.get('id')) is int)
    for ident, count in counts.items():
        if count > 1:
            yield f'{name}: id {ident} is used {count} times'


def _check_categories(categories: list[dict]) -> Iterator[str]:
    for category in categories:
        if not isinstance(category.get('name'), str) or not category['name']:
            yield f'category {category.get("id")}: has no name'
    for name, count in Counter(str(category.get('name')) for category in categories).items():
        if count > 1:
            yield f'categories: {count} have the name {name!r}'


def _is_path(name: Any) -> bool:
    return (isinstance(name, str) and bool(name) and name.isprintable() and not name.startswith('/')
            and '..' not in PurePosixPath(name).parts)


def _is_usable(video: dict) -> bool:
    names = video.get('file_names')
    return (isinstance(names, list) and bool(names)
            and all(type(video.get(key)) is int and video[key] > 0 for key in ('height', 'width')))


def _check_video(video: dict) -> Iterator[str]:
    where = f'video {video.get("id")}'
    try:
        check_image_size(video.get('height'), video.get('width'), where)
    except UserError as error:
        yield str(error)
    names = video.get('file_names')
    if not isinstance(names, list) or not names:
        yield f'{where}: has no file_names'
        return
    for name in names:
        if not _is_path(name):
            yield f'{where}: file name {str(name)[:80]!r} is not a path below the image folder'
    for name, count in Counter(map(str, names)).items():
        if count > 1:
            yield f'{where}: {name} is listed {count} times'
    if video.get('length') not in (None, len(names)):
        yield f'{where}: length is {video["length"]}, but there are {len(names)} file_names'


def _check_track(annotation: dict, where: str, length: int, height: int, width: int,
                 rles: list[dict | None]) -> Iterator[str]:
    """Faults of one object; its masks are appended to ``rles``, where they are readable."""
    lists = {}
    for key in ('segmentations', 'bboxes', 'areas'):
        values = annotation.get(key)
        if values is None and key != 'segmentations':
            continue
        if not isinstance(values, list):
            yield f'{where}: {key} is {type(values).__name__}, not a list'
        elif len(values) != length:
            yield f'{where}: {key} has {len(values)} entries, the video {length} frames'
        else:
            lists[key] = values
    if 'segmentations' not in lists:
        return
    faults: list[str] = []
    masks = _readable_masks(lists['segmentations'], height, width, f'{where}, segmentations', faults)
    yield from faults
    areas = [int(coco_mask.area(rle)) if rle else 0 for rle in masks]
    if not any(areas) and not faults:
        yield f'{where}: is in no frame'
    for frame in np.flatnonzero([rle is not None and not area for rle, area in zip(masks, areas)]).tolist():
        yield f'{where}, segmentations[{frame}]: the mask is empty; null says that the object is not seen'
    if 'bboxes' in lists:
        yield from _check_boxes(lists['bboxes'], masks, where)
    for frame, (area, rle) in enumerate(zip(lists.get('areas', ()), masks)):
        if rle and not (isinstance(area, (int, float)) and area > 0):
            yield f'{where}, areas[{frame}]: is {area!r}, but there is a mask'
    rles.extend(masks)


def _readable_masks(segmentations: list, height: int, width: int, where: str, faults: list[str]) -> list[dict | None]:
    try:
        return parse_segmentations(segmentations, height, width, where)[0]
    except UserError:
        masks: list[dict | None] = []
        for frame, segmentation in enumerate(segmentations):
            try:
                masks += parse_segmentations([segmentation], height, width, where)[0]
            except UserError as error:
                masks.append(None)
                faults.append(str(error).replace(f'{where}[0]', f'{where}[{frame}]'))
        return masks


def _check_boxes(boxes: list, masks: list[dict | None], where: str) -> Iterator[str]:
    for frame, (box, rle) in enumerate(zip(boxes, masks)):
        here = f'{where}, bboxes[{frame}]'
        if not box:
            if rle is not None:
                yield f'{here}: is null, but there is a mask'
        elif (not isinstance(box, list) or len(box) != 4
              or not all(type(value) in (int, float) and np.isfinite(value) for value in box)):
            yield f'{here}: is {str(box)[:60]}, not [x, y, width, height]'
        elif box[2] <= 0 or box[3] <= 0:
            yield f'{here}: {box} has no area'
        elif rle is not None:
            x, y, w, h = rle_boxes([rle])[0]
            extents = np.array([x, y, x + w, y + h])
            gap = np.abs(extents - (box[0], box[1], box[0] + box[2], box[1] + box[3])).max()
            if w and gap > BOX_TOLERANCE:
                yield f'{here}: {box} is {gap:.0f} pixels off the mask\'s extents {[x, y, w, h]}'


def _check_overlaps(video_id: Any, objects: list[tuple[dict, list[dict | None]]], limit: float) -> Iterator[str]:
    """Pairs of objects whose masks are the same, over the frames of the video."""
    count = len(objects)
    shared, areas = np.zeros((count, count)), np.zeros(count)
    for frame in range(len(objects[0][1])):
        shown = [index for index, (_, rles) in enumerate(objects) if rles[frame] is not None]
        masks = [objects[index][1][frame] for index in shown]
        if masks:
            area = coco_mask.area(masks).astype(float)
            iou = coco_mask.iou(masks, masks, [0] * len(masks))
            shared[np.ix_(shown, shown)] += iou * (area[:, None] + area) / (1 + iou)
            areas[shown] += area
    union = areas[:, None] + areas - shared
    overlap = np.triu(shared / np.maximum(union, 1), 1)
    for first, second in np.argwhere(overlap > limit).tolist():
        yield (f'annotations {objects[first][0].get("id")} and {objects[second][0].get("id")}: in video {video_id} '
               f'their masks are {overlap[first, second]:.0%} the same; one object under two ids?')
