"""Tracked objects of a frame in the compact form that the metric stores, and their conversion to result entries.

Called by ``YouTubeVISMetric``; :mod:`mmdet.evaluation.result_files` writes and reads them.
"""
from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pycocotools import mask as coco_mask

from mmdet.errors import UserError, counted
from mmdet.structures import DetDataSample
from mmdet.structures.result_tracks import ResultTrack, xywh_boxes
from mmdet.structures.vis_json import Video

BOX_VALUES = 5
ROW_VALUES = 10


# query, label and score of each track of a video, by descending score; of models that know them only at its end
VideoTracks = Sequence[tuple[int, int, float]]


@dataclass
class FrameResult:
    """The n tracked objects of a frame.

    Attributes:
        ids: n track ids, unique in the frame.
        labels: n 0-based labels.
        rows: (n, 10) float32 x1, y1, x2, y2 in original pixels, score, four uncertainties, centerness; (n, 5), without
            the last five, where the model estimates no uncertainty.
        counts: n compressed RLE counts; the masks have the size of the video.
    """

    ids: list[int]
    labels: list[int]
    rows: np.ndarray
    counts: list[str]

    @classmethod
    def empty(cls) -> FrameResult:
        return cls([], [], np.zeros((0, BOX_VALUES), np.float32), [])

    @classmethod
    def from_sample(cls, sample: DetDataSample) -> FrameResult:
        """Convert ``video_candidates`` or else ``pred_track_instances``; without them the frame is empty."""
        objects = sample.get('video_candidates', sample.get('pred_track_instances'))
        if objects is None or not len(objects):
            return cls.empty()
        # field by field: InstanceData.numpy() costs more than all the rest
        columns = [objects.bboxes, objects.scores[:, None]]
        if 'uncertainties' in objects:
            columns += [objects.uncertainties, objects.centerness[:, None]]
        counts = [rle['counts'] for rle in objects.masks]
        return cls(objects.instances_id.tolist(), objects.labels.tolist(), torch.cat(columns, dim=1).float().numpy(),
                   [text.decode() if isinstance(text, bytes) else text for text in counts])

    def to_json(self) -> str:
        """Return one line of JSON, which restores float32 values exactly."""
        return json.dumps([self.ids, self.labels, self.rows.tolist(), self.counts], separators=(',', ':'))

    @classmethod
    def from_json(cls, line: str | bytes) -> FrameResult:
        ids, labels, rows, counts = json.loads(line)
        return cls(ids, labels, np.array(rows, np.float32), counts) if ids else cls.empty()

    def of_tracks(self, tracks: VideoTracks, video: Video) -> FrameResult:
        """Return the frame with all tracks of the video, whose ids 0, 1, ... are in the order of descending scores.

        The mask of a track is that of the object of this frame with the query of the track; empty if there is none.
        """
        if not tracks:
            return FrameResult.empty()
        place = {query: row for row, query in enumerate(self.ids)}
        rows = np.zeros((len(tracks), BOX_VALUES), np.float32)
        rows[:, 2:4] = -1  # an empty mask's box is 0 wide and high
        counts = []
        empty = coco_mask.encode(np.zeros((video.height, video.width), np.uint8, order='F'))['counts'].decode()
        for row, (query, _, score) in zip(rows, tracks):
            if query in place:
                row[:4] = self.rows[place[query], :4]
            row[4] = score
            counts.append(self.counts[place[query]] if query in place else empty)
        return FrameResult(list(range(len(tracks))), [label for _, label, _ in tracks], rows, counts)

    def to_pickled(self, video: Video) -> tuple[dict, dict]:
        """Return the frame as it is stored in the result pickle: ``({id: {bbox, label}}, {id: RLE})``."""
        boxes = {i: dict(bbox=row.copy(), label=label) for i, row, label in zip(self.ids, self.rows, self.labels)}
        size = [video.height, video.width]
        masks = {i: dict(size=list(size), counts=counts.encode()) for i, counts in zip(self.ids, self.counts)}
        return boxes, masks


def track_entries(video: Video, frames: Sequence[FrameResult], category_ids: Sequence[int],
                  length_exponent: float = 0.0) -> list[dict]:
    """Return one YouTube-VIS result entry per track of a video, in the order of ascending track ids.

    Args:
        video: the video.
        frames: all frames of the video, in order.
        category_ids: category id in the annotation file of each label.
        length_exponent: scores are multiplied by (frames of the track / frames of the video) to this power. 0, as
            published: not at all.

    Returns:
        Dicts ``video_id``, ``category_id`` (most frequent label, the lowest on ties), ``score`` (mean over the
        track's frames), ``segmentations`` (RLE or None per frame), ``bboxes`` (x, y, w, h in original pixels or
        None per frame; as in the annotations, w = x2 - x1 + 1).

    Raises:
        UserError: the model has more classes than the annotation file.
    """
    tracks: dict[int, ResultTrack] = {}
    rows: dict[int, list[int]] = {}
    for frame_id, frame in enumerate(frames):
        if frame.labels and max(frame.labels) >= len(category_ids):
            raise UserError(f'the model predicts class {max(frame.labels)} (counted from 0), the annotation file has '
                            f'{counted(len(category_ids), "category")}; test with the annotations that the model was '
                            'trained for')
        scores = frame.rows[:, BOX_VALUES - 1].tolist()
        for row, (track_id, label, score) in enumerate(zip(frame.ids, frame.labels, scores)):
            tracks.setdefault(track_id, ResultTrack()).add(frame_id, label, score)
            rows.setdefault(track_id, []).append(row)
    entries = []
    for track_id in sorted(tracks):
        track = tracks[track_id]
        segmentations: list[dict | None] = [None] * video.length
        bboxes: list[list[float] | None] = [None] * video.length
        places = list(zip(track.frames, rows[track_id]))
        boxes = xywh_boxes(np.stack([frames[frame_id].rows[row, :4] for frame_id, row in places])).tolist()
        for (frame_id, row), box in zip(places, boxes):
            segmentations[frame_id] = dict(size=[video.height, video.width], counts=frames[frame_id].counts[row])
            bboxes[frame_id] = box
        entry = track.head(video.id, category_ids[track.label])
        if length_exponent:
            entry['score'] *= (len(track.frames) / video.length) ** length_exponent
        entries.append(entry | dict(segmentations=segmentations, bboxes=bboxes))
    return entries
