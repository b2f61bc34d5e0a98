"""Results of one video on the disk: a JSON line per frame as it comes, a YouTube-VIS result list at the end.

Called by :class:`mmdet.apis.VideoInferencer`, through a :class:`FrameSink`. Memory holds the positions of the objects
in the file, 32 bytes each.
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


def frame_objects(found: InstanceData, category_ids: Sequence[int] | None = None,
                  class_names: Sequence[str] | None = None) -> list[dict]:
    """A frame's ``pred_track_instances`` as JSON: ``objects`` of a line of :class:`VideoResultWriter`.

    Args:
        found: boxes, scores, labels and ids as tensors or arrays, and masks; see :class:`DetDataSample`.
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
    """A track, and the position and the length of its segmentations' text in the file of lines."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets, self.lengths = array('q'), array('q')


class VideoResultWriter:
    """Write ``<path>.jsonl`` line by line and ``<path>.json`` when closed; without frames, neither.

    A line has ``frame_id``, ``source_frame``, where the source has a clock ``time`` (seconds since its start), and
    ``objects``, each with ``id``, ``category_id``, ``category``,
    ``score``, ``bbox`` (x, y, w, h in pixels; w = x2 - x1 + 1, as in the annotations) and ``segmentation`` (compressed
    RLE). ``<path>.json`` is a list with an entry per track: ``video_id`` 1, ``category_id`` (its most frequent),
    ``score`` (mean), ``segmentations`` (RLE or null per frame): what ``tools/vis_eval.py`` reads.

    Args:
        path: without ending; its folder is made with the first frame.
        category_ids: of each label; None: label + 1.
        class_names: of each label; None: lines have no ``category``.

    Raises:
        UserError: a file cannot be written.
    """

    def __init__(self, path: Path, category_ids: Sequence[int] | None = None,
                 class_names: Sequence[str] | None = None) -> None:
        self.lines, self.tracks = path.with_name(f'{path.name}.jsonl'), path.with_name(f'{path.name}.json')
        self._category_ids, self._names = category_ids, class_names
        self._index: dict[int, _Track] = {}
        self._length = self._place = 0
        self._file: IO[bytes] | None = None
        check_writable(self.lines, 'results')

    def add(self, image: np.ndarray | None, sample: DetDataSample) -> None:
        """Write a frame's ``pred_track_instances``, at once for other processes to see.

        Args:
            image: not needed.
            sample: with boxes, scores, labels, ids (arrays) and masks, see :class:`DetDataSample`, and
                ``source_frame``, its number in the video; ``time``, if known, its seconds since the start.
        """
        found = sample.pred_track_instances
        head = dict(frame_id=self._length, source_frame=sample.source_frame)
        if (time := sample.get('time')) is not None:
            head['time'] = round(time, 6)
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
        data = ''.join(parts).encode('ascii')  # json.dumps escapes what is not, so characters are bytes
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
        """Write the list of tracks; more calls do nothing."""
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
