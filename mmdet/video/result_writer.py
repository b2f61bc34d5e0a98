"""Write the results of one video: a line of JSON for each frame, and a YouTube-VIS result list at the end.

Called by :class:`mmdet.apis.VideoInferencer`, through a :class:`FrameSink`. Only the positions of the objects in the
file are kept in memory, 32 bytes per object.
"""
from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from mmengine.structures import InstanceData

from mmdet.errors import UserError
from mmdet.files import atomic_open, check_writable
from mmdet.structures import DetDataSample
from mmdet.structures.result_tracks import ResultTrack, xywh_boxes
from mmdet.video.frame_sink import FrameConsumer


def frame_objects(found: InstanceData, category_ids: Sequence[int] | None = None,
                  class_names: Sequence[str] | None = None) -> list[dict]:
    """Convert the ``pred_track_instances`` of a frame to ``objects`` of a line of :class:`VideoResultWriter`.

    Args:
        found: boxes, scores, labels and ids as tensors or arrays, and masks, see :class:`DetDataSample`.
        category_ids, class_names: see :class:`VideoResultWriter`.
    """
    boxes = xywh_boxes(np.asarray(found.bboxes).reshape(-1, 4))
    objects = []
    for track_id, label, score, box, rle in zip(found.instances_id.tolist(), found.labels.tolist(),
                                                found.scores.tolist(), boxes.tolist(), found.masks):
        counts = rle['counts'].decode() if isinstance(rle['counts'], bytes) else rle['counts']
        entry = dict(id=track_id, category_id=_category_id(label, category_ids))
        if class_names is not None:
            entry['category'] = class_names[label]
        objects.append(entry | dict(score=round(score, 5), bbox=[round(side, 2) for side in box],
                                    segmentation=dict(size=list(rle['size']), counts=counts)))
    return objects


def _category_id(label: int, category_ids: Sequence[int] | None) -> int:
    return label + 1 if category_ids is None else category_ids[label]


class _Track(ResultTrack):
    """A track with the positions and lengths of its segmentations in the file of lines."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets, self.lengths = array('q'), array('q')


class VideoResultWriter(FrameConsumer):
    """Write ``<path>.jsonl`` line by line and ``<path>.json`` when closed; without frames, neither is written.

    A line has ``frame_id``, ``source_frame``, ``time`` (seconds since the start, if the source has time stamps),
    ``dropped`` (of live sources: number of frames left out before it) and ``objects``, each with ``id``,
    ``category_id``, ``category``, ``score``, ``bbox`` (x, y, w, h in pixels; w = x2 - x1 + 1, as in the annotations)
    and ``segmentation`` (compressed RLE). ``<path>.json`` is a list with an entry per track that ``tools/vis_eval.py``
    can read: ``video_id`` 1, ``category_id`` (the most frequent one), ``score`` (mean) and ``segmentations`` (RLE or
    null per frame).

    Args:
        path: path without extension; its folder is created with the first frame.
        category_ids: category id of each label; None: label + 1.
        class_names: class name of each label; None: lines have no ``category``.
        fps: frames per second of a source without times: a frame then has the ``time`` frame_id / fps. None: unknown.

    Raises:
        UserError: a file cannot be written.
    """

    def __init__(self, path: Path, category_ids: Sequence[int] | None = None,
                 class_names: Sequence[str] | None = None, fps: float | None = None) -> None:
        self._fps = fps
        self.lines, self.tracks = path.with_name(f'{path.name}.jsonl'), path.with_name(f'{path.name}.json')
        self._category_ids, self._names = category_ids, class_names
        self._index: dict[int, _Track] = {}
        self._length = self._place = 0
        self._file: IO[bytes] | None = None
        check_writable(self.lines, 'results')

    def add(self, image: np.ndarray | None, sample: DetDataSample) -> None:
        """Write the ``pred_track_instances`` of a frame and flush the file, so that other processes can read it.

        Args:
            image: unused.
            sample: sample with boxes, scores, labels, ids (arrays) and masks, see :class:`DetDataSample`;
                ``source_frame``, its number in the video; if known, ``time``, in seconds since the start; and, of a
                live source, ``dropped``, the number of frames left out before it.
        """
        found = sample.pred_track_instances
        head = dict(frame_id=self._length, source_frame=sample.source_frame)
        time = sample.get('time')
        if time is None and self._fps is not None:
            time = self._length / self._fps
        if time is not None:
            head['time'] = round(time, 6)
        if (dropped := sample.get('dropped')) is not None:
            head['dropped'] = dropped
        parts = [json.dumps(head, separators=(',', ':'))[:-1] + ',"objects":[']
        place = self._place + len(parts[0])
        objects = frame_objects(found, self._category_ids, self._names)
        for number, (entry, label, score) in enumerate(zip(objects, found.labels.tolist(), found.scores.tolist())):
            mask = json.dumps(entry.pop('segmentation'), separators=(',', ':'))
            text = ',' * (number > 0) + json.dumps(entry, separators=(',', ':'))[:-1] + ',"segmentation":'
            track = self._index.setdefault(entry['id'], _Track())
            track.add(self._length, label, score)
            track.offsets.append(place + len(text))
            track.lengths.append(len(mask))
            parts += [text, mask, '}']
            place += len(text) + len(mask) + 1
        parts.append(']}\n')
        data = ''.join(parts).encode('ascii')  # json.dumps escapes other characters, so each character is one byte
        try:
            if self._file is None:
                self.lines.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.lines.open('wb')
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise self._failure(error) from error
        self._place += len(data)
        self._length += 1

    def close(self) -> None:
        """Write the list of tracks; further calls have no effect."""
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            file.close()
        except OSError as error:
            raise self._failure(error) from error
        with atomic_open(str(self.tracks), 'w') as out, self.lines.open('rb') as lines:
            separator = '['
            for track_id in sorted(self._index):
                out.write(separator)
                self._write_track(out, lines, self._index[track_id])
                separator = ',\n'
            out.write('[]' if separator == '[' else ']')

    def __enter__(self) -> VideoResultWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_track(self, out: IO[str], lines: IO[bytes], track: _Track) -> None:
        head = json.dumps(track.head(1, _category_id(track.label, self._category_ids)), separators=(',', ':'))
        out.write(f'{head[:-1]},"segmentations":[')
        following = 0
        for frame, offset, length in zip(track.frames, track.offsets, track.lengths):
            out.write('null,' * (frame - following))
            lines.seek(offset)
            out.write(lines.read(length).decode('ascii') + ',' * (frame + 1 < self._length))
            following = frame + 1
        out.write(','.join(['null'] * (self._length - following)) + ']}')

    def _failure(self, error: OSError) -> UserError:
        return UserError(f'{self.lines}: cannot be written ({error.strerror}); free space or choose another folder')
