"""Annotations of a data set, read once by :mod:`mmdet.structures.vis_json` and packed into a few arrays.

``YVISDataset`` holds one :class:`VideoAnnotations`. Its arrays are outside Python's object heap, so the forked workers
of a data loader share their memory pages with the parent process. Masks stay run-length encoded until a frame is
requested.
"""
from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from mmdet.files import load_json
from mmdet.structures.vis_json import Category, Track, Video, check_outline, checked, read_annotation_entries


@dataclass(frozen=True, eq=False)
class FrameObjects:
    """The annotated objects of one frame, without crowds.

    Attributes:
        bboxes: (n, 4) float32 x1, y1, x2, y2 in original pixels: x, y, x + w - 1, y + h - 1 of x, y, w, h in the file.
        labels: (n,) int64, 0-based positions in the category list of the file.
        instances_id: (n,) int64, ids of the annotations.
        rles: n trusted compressed RLE dicts of the original size.
    """

    bboxes: np.ndarray
    labels: np.ndarray
    instances_id: np.ndarray
    rles: list[dict]


@dataclass(frozen=True, eq=False)
class VideoAnnotations:
    """Annotations of V videos with F frames in total, O objects and E entries.

    An entry is one object in one frame; entries are sorted by frame. The ``first_*`` arrays hold the offset at which
    each item begins in a concatenated array, and the length of that array as their last value.

    Attributes:
        classes: K category names in the order of the file.
        cat_ids: K category ids of the file.
        video_ids: (V,) video ids of the file.
        sizes: (V, 2) height and width in pixels.
        first_frame: (V + 1,) offset of the first frame of each video.
        names, first_char: UTF-8 bytes of the file names of all frames, and the (F + 1,) offset of each name.
        first_entry: (F + 1,) offset of the first entry of each frame.
        entry_object: (E,) index of the object.
        entry_boxes: (E, 4), see :class:`FrameObjects`.
        runs, first_run: bytes of all RLE counts, and the (E + 1,) offset of each.
        object_ids, object_labels: (O,); label -1: an object without entries, whose category was not chosen.
        crowds: number of crowds, which are left out.
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
    crowds: int

    def __deepcopy__(self, memo: dict) -> VideoAnnotations:
        """Return the object itself: it is immutable, and a copy would cost the memory that packing saves."""
        return self

    def video_length(self, video: int) -> int:
        return int(self.first_frame[video + 1] - self.first_frame[video])

    def file_name(self, video: int, frame: int) -> str:
        """Return the file name of a frame, relative to the image folder."""
        at = self.first_frame[video] + frame
        return self.names[self.first_char[at]:self.first_char[at + 1]].tobytes().decode()

    def annotated_frames(self, video: int) -> np.ndarray:
        """Return the 0-based positions of the frames of a video with at least one object."""
        first, end = self.first_frame[video:video + 2]
        return np.flatnonzero(np.diff(self.first_entry[first:end + 1]))

    def of_classes(self, names: Sequence[str]) -> VideoAnnotations:
        """Return the annotations of some of the categories; label i is then the i-th name. Videos and frames stay.

        Args:
            names: different names of :attr:`classes`, in any order.
        """
        chosen = [self.classes.index(name) for name in names]
        label_of = np.full(len(self.classes), -1)
        label_of[chosen] = np.arange(len(chosen))
        labels = label_of[self.object_labels]
        kept = labels[self.entry_object] >= 0
        frame_of = np.repeat(np.arange(len(self.first_entry) - 1), np.diff(self.first_entry))
        lengths = np.diff(self.first_run)
        return replace(
            self, classes=tuple(names), cat_ids=tuple(self.cat_ids[label] for label in chosen), object_labels=labels,
            first_entry=_starts(np.bincount(frame_of[kept], minlength=len(self.first_entry) - 1)),
            entry_object=self.entry_object[kept], entry_boxes=self.entry_boxes[kept],
            runs=self.runs[np.repeat(kept, lengths)], first_run=_starts(lengths[kept]))

    def objects(self, video: int, frame: int) -> FrameObjects:
        at = self.first_frame[video] + frame
        entries = slice(self.first_entry[at], self.first_entry[at + 1])
        which = self.entry_object[entries]
        size = self.sizes[video].tolist()
        bounds = self.first_run[entries.start:entries.stop + 1].tolist()
        rles = [{'size': size, 'counts': self.runs[begin:end].tobytes()} for begin, end in pairwise(bounds)]
        return FrameObjects(self.entry_boxes[entries].copy(), self.object_labels[which], self.object_ids[which], rles)


def read_youtube_vis(path: str | os.PathLike, convert: Callable[[Any], Any] | None = None,
                     need_masks: bool = True) -> VideoAnnotations:
    """Read an annotation file, check it and pack it.

    An object is present in a frame if it has a mask there, its area is above 0, and its box is not null, is at least 1
    pixel wide and high and touches the image. Crowds are left out. Boxes and areas that are missing in the file are
    computed from the masks. ``annotations`` may be missing (test sets).

    Args:
        path: path of the annotation file.
        convert: function that converts the content of a file in another format to YouTube-VIS form.
        need_masks: require masks; False: leave out annotations with ``bboxes`` only, for tests, which read the videos.

    Raises:
        UserError: the file cannot be read, is not YouTube-VIS JSON, or contradicts itself; the message names the entry.
    """
    data = load_json(path)
    if convert:
        data = convert(data)
    check_outline(data, str(path))
    categories: list[Category] = []
    videos: list[Video] = []
    entries: _Entries | None = None
    for entry in checked(read_annotation_entries(data, occlusion=False, need_masks=need_masks), str(path)):
        if isinstance(entry, Category):
            categories.append(entry)
        elif isinstance(entry, Video):
            videos.append(entry)
        else:
            entries = entries or _Entries(videos, categories)
            entries.add(entry)
    encoded = [name.encode() for video in videos for name in video.file_names]
    return VideoAnnotations(
        classes=tuple(category.name for category in categories), cat_ids=tuple(category.id for category in categories),
        video_ids=np.array([video.id for video in videos], np.int64),
        sizes=np.array([(video.height, video.width) for video in videos], np.int64),
        first_frame=_starts([video.length for video in videos]), names=np.frombuffer(b''.join(encoded), np.uint8),
        first_char=_starts([len(name) for name in encoded]), **(entries or _Entries(videos, categories)).packed())


class _Entries:
    """Collect the entries object by object; :meth:`packed` sorts them by frame."""

    def __init__(self, videos: Sequence[Video], categories: Sequence[Category]) -> None:
        self.video_of = {video.id: index for index, video in enumerate(videos)}
        self.label_of = {category.id: index for index, category in enumerate(categories)}
        self.videos, self.first_frame = videos, _starts([video.length for video in videos])
        self.object_ids: list[int] = []
        self.object_labels: list[int] = []
        self.frames: list[np.ndarray] = [np.zeros(0, np.int64)]
        self.counts: list[int] = [0]
        self.boxes: list[np.ndarray] = [np.zeros((0, 4))]
        self.strings: list[bytes] = []
        self.crowds = 0

    def add(self, track: Track) -> None:
        self.crowds += track.crowd
        if track.crowd or not track.rles:
            return
        index = self.video_of[track.video_id]
        height, width = self.videos[index].height, self.videos[index].width
        boxes = track.mask_boxes() if track.boxes is None else track.boxes
        x, y, w, h = boxes.T
        shown = np.array([rle is not None for rle in track.rles]) & (track.areas > 0)
        shown &= (w >= 1) & (h >= 1) & (x < width) & (y < height) & (x + w > 0) & (y + h > 0)
        frames = np.flatnonzero(shown)
        self.object_ids.append(track.id)
        self.object_labels.append(self.label_of[track.category_id])
        self.frames.append(self.first_frame[index] + frames)
        self.counts.append(len(frames))
        self.boxes.append(boxes[frames] + (boxes[frames][:, [0, 1, 0, 1]] - 1) * (0, 0, 1, 1))
        self.strings.extend(rle['counts'].encode() for rle, kept in zip(track.rles, shown) if rle is not None and kept)

    def packed(self) -> dict[str, Any]:
        frames = np.concatenate(self.frames)
        order = np.argsort(frames, kind='stable')
        strings = [self.strings[index] for index in order]
        entry_object = np.repeat(np.arange(-1, len(self.object_ids)), self.counts)
        per_frame = np.bincount(frames, minlength=self.first_frame[-1])
        return {
            'first_entry': _starts(per_frame), 'entry_object': entry_object[order],
            'entry_boxes': np.concatenate(self.boxes)[order].astype(np.float32),
            'runs': np.frombuffer(b''.join(strings), np.uint8), 'first_run': _starts([len(text) for text in strings]),
            'object_ids': np.array(self.object_ids, np.int64), 'object_labels': np.array(self.object_labels, np.int64),
            'crowds': self.crowds}


def _starts(lengths: Any) -> np.ndarray:
    """Compute the offsets of concatenated items from their lengths, with the total length last: (n,) → (n + 1,)."""
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))]).astype(np.int64)
