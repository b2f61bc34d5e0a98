"""Reads YouTube-VIS JSON (2019, 2021, 2022, OVIS) once, checks it and packs it into a few arrays.

``YVISDataset`` holds one :class:`VideoAnnotations`. Its arrays live outside Python's object heap, so the processes that
a data loader forks read the same pages as their parent; masks stay run-length encoded until a frame is asked for.
"""
from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from mmdet.errors import UserError
from mmdet.files import load_json
from mmdet.structures.masks import check_image_size, parse_segmentations, rle_boxes

# of a coordinate or an area; more is no image's
MAX_NUMBER = 1e9


@dataclass(frozen=True, eq=False)
class FrameObjects:
    """The objects to learn from in one frame.

    Attributes:
        bboxes: (n, 4) float32 x1,y1,x2,y2, original pixels: (x, y, x + w - 1, y + h - 1) of the file's x,y,w,h.
        labels: (n,) int64, 0-based position in the file's category list.
        instances_id: (n,) int64, the annotation's id.
        rles: n trusted compressed RLE dicts of the original size.
    """

    bboxes: np.ndarray
    labels: np.ndarray
    instances_id: np.ndarray
    rles: list[dict]


@dataclass(frozen=True, eq=False)
class VideoAnnotations:
    """V videos with F frames in all, O objects, E appearances of an object in a frame (sorted by frame).

    Attributes:
        classes: K category names in the file's order.
        cat_ids: their K ids in the file.
        video_ids: (V,) ids in the file.
        sizes: (V, 2) height, width in pixels.
        first_frame: (V + 1,) position of each video's first frame among all frames.
        names, first_char: UTF-8 of all frames' file names, and (F + 1,) where each begins.
        first_entry: (F + 1,) position of each frame's first appearance.
        entry_object: (E,) index of the object.
        entry_boxes: (E, 4) see :class:`FrameObjects`.
        runs, first_run: bytes of all RLE counts, and (E + 1,) where each begins.
        object_ids, object_labels: (O,).
    """

    classes: tuple[str, ...]
    cat_ids: tuple[int, ...]
    video_ids: np.ndarray
    sizes: np.ndarray
    first_frame: np.ndarray
    names: np.ndarray
    first_char: np.ndarray
    first_entry: np.ndarray
    entry_object: np.ndarray
    entry_boxes: np.ndarray
    runs: np.ndarray
    first_run: np.ndarray
    object_ids: np.ndarray
    object_labels: np.ndarray

    def __deepcopy__(self, memo: dict) -> VideoAnnotations:
        """Itself: nothing changes it, and copies would cost what packing saved."""
        return self

    def video_length(self, video: int) -> int:
        return int(self.first_frame[video + 1] - self.first_frame[video])

    def file_name(self, video: int, frame: int) -> str:
        """The frame's file name, relative to the image folder."""
        at = self.first_frame[video] + frame
        return self.names[self.first_char[at]:self.first_char[at + 1]].tobytes().decode()

    def annotated_frames(self, video: int) -> np.ndarray:
        """0-based positions of the video's frames that show at least one object."""
        first, end = self.first_frame[video:video + 2]
        return np.flatnonzero(np.diff(self.first_entry[first:end + 1]))

    def objects(self, video: int, frame: int) -> FrameObjects:
        at = self.first_frame[video] + frame
        entries = slice(self.first_entry[at], self.first_entry[at + 1])
        which = self.entry_object[entries]
        size = self.sizes[video].tolist()
        bounds = self.first_run[entries.start:entries.stop + 1].tolist()
        rles = [{'size': size, 'counts': self.runs[begin:end].tobytes()} for begin, end in pairwise(bounds)]
        return FrameObjects(self.entry_boxes[entries].copy(), self.object_labels[which], self.object_ids[which], rles)


def read_youtube_vis(path: str | os.PathLike, convert: Callable[[Any], Any] | None = None) -> VideoAnnotations:
    """Reads and checks an annotation file.

    An object counts in a frame where it has a mask, its box is not null, at least 1 px wide and high and touches the
    image, and its area is above 0. Crowd objects are left out with their masks. Boxes and areas that the file lacks
    come from the masks. ``annotations`` may be missing (test sets).

    Args:
        path: annotation file.
        convert: brings the content of a file of another format into YouTube-VIS form.

    Raises:
        UserError: the file cannot be read, is not YouTube-VIS JSON, or contradicts itself; names the entry.
    """
    data = load_json(path)
    if convert:
        data = convert(data)
    for key in ('videos', 'categories'):
        if not isinstance(data, dict) or not isinstance(data.get(key), list) or not data[key]:
            raise UserError(f'{path} is not YouTube-VIS JSON: it needs a non-empty list {key!r}; check ann_file')
    annotations = [] if data.get('annotations') is None else data['annotations']
    if not isinstance(annotations, list):
        raise UserError(f"{path}: 'annotations' must be a list; check ann_file")
    cat_ids = checked_ids(data['categories'], f'{path}: categories')
    classes = [category.get('name') for category in data['categories']]
    for index, name in enumerate(classes):
        if not isinstance(name, str):
            raise UserError(f'{path}: categories[{index}] has no name; give each category one')
    video_ids = checked_ids(data['videos'], f'{path}: videos')
    names = [_file_names(video, f'{path}: video {video["id"]}') for video in data['videos']]
    sizes = np.array([(video['height'], video['width']) for video in data['videos']], np.int64)
    encoded = [name.encode() for video in names for name in video]
    first_frame = _starts([len(video) for video in names])
    entries = _Entries(path, video_ids, cat_ids, first_frame, sizes)
    for annotation, ident in zip(annotations, checked_ids(annotations, f'{path}: annotations')):
        entries.add(annotation, ident)
    return VideoAnnotations(
        classes=tuple(classes), cat_ids=tuple(cat_ids), video_ids=np.array(video_ids, np.int64), sizes=sizes,
        first_frame=first_frame, names=np.frombuffer(b''.join(encoded), np.uint8),
        first_char=_starts([len(name) for name in encoded]), **entries.packed())


class _Entries:
    """Collects the objects' appearances, object by object, and sorts them by frame at the end."""

    def __init__(self, path: str | os.PathLike, video_ids: list[int], cat_ids: list[int], first_frame: np.ndarray,
                 sizes: np.ndarray) -> None:
        self.path, self.first_frame, self.sizes = path, first_frame, sizes
        self.video_of = {ident: index for index, ident in enumerate(video_ids)}
        self.label_of = {ident: index for index, ident in enumerate(cat_ids)}
        self.object_ids: list[int] = []
        self.object_labels: list[int] = []
        self.frames: list[np.ndarray] = [np.zeros(0, np.int64)]
        self.counts: list[int] = [0]
        self.boxes: list[np.ndarray] = [np.zeros((0, 4))]
        self.strings: list[bytes] = []

    def add(self, annotation: dict, ident: int) -> None:
        where = f'{self.path}: annotation {ident}'
        video, label = (_known(annotation.get(key), index_of, f'{where}: {key}') for key, index_of in
                        (('video_id', self.video_of), ('category_id', self.label_of)))
        if annotation.get('iscrowd'):
            return
        length = int(self.first_frame[video + 1] - self.first_frame[video])
        height, width = self.sizes[video].tolist()
        masks = _per_frame(annotation, 'segmentations', length, where)
        rles, areas = parse_segmentations(masks, height, width, f'{where}, segmentations')
        shown = np.array([rle is not None for rle in rles])
        boxes, has_box = self._boxes(annotation, rles, length, where)
        if annotation.get('areas') is not None:
            areas = _numbers(_per_frame(annotation, 'areas', length, where), f'{where}, areas')
        x, y, w, h = boxes.T
        shown &= has_box & (areas > 0) & (w >= 1) & (h >= 1) & (x < width) & (y < height) & (x + w > 0) & (y + h > 0)
        frames = np.flatnonzero(shown)
        self.object_ids.append(ident)
        self.object_labels.append(label)
        self.frames.append(self.first_frame[video] + frames)
        self.counts.append(len(frames))
        self.boxes.append(boxes[frames] + (boxes[frames][:, [0, 1, 0, 1]] - 1) * (0, 0, 1, 1))
        self.strings.extend(rle['counts'].encode() for rle, kept in zip(rles, shown) if rle is not None and kept)

    @staticmethod
    def _boxes(annotation: dict, rles: list[dict | None], length: int, where: str) -> tuple[np.ndarray, np.ndarray]:
        """x,y,w,h (length, 4) and which of them the file has, (length,) bool."""
        if annotation.get('bboxes') is None:
            boxes = np.zeros((length, 4))
            shown = np.array([rle is not None for rle in rles])
            boxes[shown] = rle_boxes([rle for rle in rles if rle is not None])
            return boxes, shown
        rows = _per_frame(annotation, 'bboxes', length, where)
        flat: list[Any] = []
        for frame, row in enumerate(rows):
            if row is not None and (not isinstance(row, list) or len(row) not in (0, 4)):
                raise UserError(f'{where}, bboxes[{frame}] is {repr(row)[:60]}; give [x, y, width, height] or null')
            flat.extend(row or (0, 0, 0, 0))
        return _numbers(flat, f'{where}, bboxes').reshape(-1, 4), np.array([bool(row) for row in rows])

    def packed(self) -> dict[str, np.ndarray]:
        frames = np.concatenate(self.frames)
        order = np.argsort(frames, kind='stable')
        strings = [self.strings[index] for index in order]
        entry_object = np.repeat(np.arange(-1, len(self.object_ids)), self.counts)
        per_frame = np.bincount(frames, minlength=self.first_frame[-1])
        return {
            'first_entry': _starts(per_frame), 'entry_object': entry_object[order],
            'entry_boxes': np.concatenate(self.boxes)[order].astype(np.float32),
            'runs': np.frombuffer(b''.join(strings), np.uint8), 'first_run': _starts([len(text) for text in strings]),
            'object_ids': np.array(self.object_ids, np.int64), 'object_labels': np.array(self.object_labels, np.int64)}


def _starts(lengths: Any) -> np.ndarray:
    """Where parts of these lengths begin when laid end to end, and where the last one ends: (n,) → (n + 1,)."""
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))]).astype(np.int64)


def checked_ids(entries: list, where: str) -> list[int]:
    """The ids of a list's entries: integers that fit 64 bits, no two alike; raises UserError otherwise."""
    seen: dict[int, int] = {}
    for index, entry in enumerate(entries):
        ident = entry.get('id') if isinstance(entry, dict) else None
        if type(ident) is not int or abs(ident) >= 2 ** 63:
            raise UserError(f'{where}[{index}] must be an object with an integer id; check ann_file')
        if ident in seen:
            raise UserError(f'{where}[{index}] and [{seen[ident]}] have the same id {ident}; make the ids unique')
        seen[ident] = index
    return list(seen)


def _known(ident: Any, index_of: dict[int, int], where: str) -> int:
    if type(ident) is not int or ident not in index_of:
        raise UserError(f'{where} {repr(ident)[:60]} is not in the file; correct the annotation')
    return index_of[ident]


def _per_frame(annotation: dict, key: str, length: int, where: str) -> list:
    values = annotation.get(key)
    if not isinstance(values, list) or len(values) != length:
        found = f'{len(values)} entries' if isinstance(values, list) else type(values).__name__
        raise UserError(f'{where}, {key}: {found} for a video of {length} frames; give one entry (or null) a frame')
    return values


def _numbers(values: list, where: str) -> np.ndarray:
    """Numbers of a size that images have; null becomes 0."""
    for value in values:
        if value is not None and type(value) not in (int, float):
            raise UserError(f'{where}: {repr(value)[:60]} is not a number; correct the annotation')
    try:
        numbers = np.array([value or 0 for value in values], np.float64)
    except OverflowError:
        numbers = np.array([np.inf])
    if not (np.abs(numbers) <= MAX_NUMBER).all():
        raise UserError(f'{where}: every number must be finite and at most {MAX_NUMBER:.0e}; correct the annotation')
    return numbers


def _file_names(video: dict, where: str) -> list[str]:
    """The checked ``file_names`` of a video; its size is checked too."""
    check_image_size(video.get('height'), video.get('width'), where)
    names = video.get('file_names')
    if not isinstance(names, list) or not names:
        raise UserError(f"{where} has no list 'file_names'; this is not YouTube-VIS JSON, check ann_file")
    for name in names:
        if not isinstance(name, str) or not name or '\0' in name or not name.isprintable():
            raise UserError(f'{where}: file name {str(name)[:80]!r} is not a path; correct file_names')
        if name.startswith('/') or '..' in PurePosixPath(name).parts:
            raise UserError(f'{where}: file name {name[:80]!r} leads out of the image folder; correct file_names')
    return names
