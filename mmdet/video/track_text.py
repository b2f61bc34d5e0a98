"""Write the tracks of a video in the text formats of MOTChallenge and MOTS, line by line.

Called by :class:`mmdet.apis.VideoInferencer`, through a :class:`FrameSink`, and by :func:`mmdet.apis.export_result`.
"""
from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from mmengine.logging import print_log

from mmdet.errors import UserError
from mmdet.files import check_writable
from mmdet.structures import DetDataSample
from mmdet.structures.masks import encode_index_mask
from mmdet.structures.result_tracks import xywh_boxes
from mmdet.video.frame_sink import FrameConsumer
from mmdet.video.index_masks import frame_size, index_mask, object_number

IDS_PER_CLASS = 1000  # of MOTS: an object's number is class * 1000 + id


class TrackTextWriter(FrameConsumer):
    """Base class: a file of lines, created with the first frame and flushed after each.

    Args:
        path: path of the file; its folder is created.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None
        self._closed = False
        check_writable(path, 'results')

    def add(self, image: np.ndarray | None, sample: DetDataSample) -> None:
        """Write the lines of a frame; ``image`` gives its size, or else ``sample.ori_shape``."""
        try:
            if self._file is None and not self._closed:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open('w')
            assert self._file is not None
            self._file.writelines(f'{line}\n' for line in self.lines(image, sample))
            self._file.flush()
        except OSError as error:
            raise UserError(f'{self.path}: cannot be written ({error.strerror}); free space or choose another '
                            'folder') from error

    def lines(self, image: np.ndarray | None, sample: DetDataSample) -> list[str]:
        """Return the lines of a frame."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the file; further calls have no effect."""
        file, self._file, self._closed = self._file, None, True
        if file is not None:
            file.close()


class MotWriter(TrackTextWriter):
    """Write ``frame, id, left, top, width, height, score, -1, -1, -1`` for each object, as MOTChallenge's evaluation
    reads it: frames, ids and pixels are counted from 1.

    Frames that are skipped by a start or stride are counted, too: the numbers are those of the video.
    """

    def lines(self, image: np.ndarray | None, sample: DetDataSample) -> list[str]:
        found = sample.pred_track_instances
        boxes = xywh_boxes(np.asarray(found.bboxes).reshape(-1, 4)).tolist()
        return [f'{sample.source_frame + 1},{object_number(track_id)},{x + 1:.2f},{y + 1:.2f},{width:.2f},{height:.2f},'
                f'{score:.5f},-1,-1,-1'
                for track_id, score, (x, y, width, height) in zip(found.instances_id.tolist(), found.scores.tolist(),
                                                                  boxes)]


class MotsWriter(TrackTextWriter):
    """Write ``frame id class height width RLE`` for each object, as the evaluation of MOTS reads it.

    ``frame`` is the number that is the name of the image file, or else the number of the frame in its video, counted
    from 0. ``id`` is class * 1000 + the number of the track in its class, from 1. The class of a track is that of its
    first frame. Masks do not overlap: the object with the higher score is in front.

    Args:
        path: path of the file.
        category_ids: class of each label; None: label + 1.
        classes: class of each label of ``class_names`` by its name, instead of ``category_ids``; objects of others are
            left out.
        class_names: class name of each label, for ``classes``.
    """

    def __init__(self, path: Path, category_ids: Sequence[int] | None = None,
                 classes: Mapping[str, int] | None = None, class_names: Sequence[str] | None = None) -> None:
        super().__init__(path)
        self._category_ids, self._classes, self._names = category_ids, classes, class_names
        self._tracks: dict[int, tuple[int, int] | None] = {}  # number and class, by the number in the index mask
        self._counts: Counter[int] = Counter()

    def lines(self, image: np.ndarray | None, sample: DetDataSample) -> list[str]:
        found = sample.pred_track_instances
        for track_id, label in zip(found.instances_id.tolist(), found.labels.tolist()):
            if (number := object_number(track_id)) not in self._tracks:
                self._tracks[number] = self._numbered(label)
        kept = np.array([self._tracks[object_number(track_id)] is not None
                         for track_id in found.instances_id.tolist()], bool)
        height, width = frame_size(image, sample)
        masks = encode_index_mask(index_mask(found[np.flatnonzero(kept)], height, width)) if kept.any() else {}
        stem = Path(sample.get('img_path') or '').stem
        frame = int(stem) if stem.isdecimal() else sample.source_frame
        lines = []
        for number, rle in masks.items():
            if (track := self._tracks[number]) is not None:
                lines.append(f'{frame} {track[0]} {track[1]} {height} {width} {rle["counts"]}')
        return lines

    def _numbered(self, label: int) -> tuple[int, int] | None:
        """Return the number and the class of the next track of a label; None if it is left out."""
        if self._classes is None:
            class_id: int | None = label + 1 if self._category_ids is None else self._category_ids[label]
        else:
            class_id = self._classes.get('' if self._names is None else self._names[label])
        if class_id is None:
            return None
        self._counts[class_id] += 1
        if self._counts[class_id] < IDS_PER_CLASS:
            return class_id * IDS_PER_CLASS + self._counts[class_id], class_id
        if self._counts[class_id] == IDS_PER_CLASS:
            print_log(f'{self.path}: class {class_id} has more than {IDS_PER_CLASS - 1} tracks; MOTS has no numbers '
                      'for more, so the others are left out', logger='current', level=logging.WARNING)
        return None
