"""Reads what is scored: YouTube-VIS ground truth and result lists, checked entry by entry before anything is computed.

``evaluate_vis``, ``YouTubeVISMetric`` and ``tools/vis_eval.py`` call it. Every fault is one UserError that names
file, entry and field.
"""
from __future__ import annotations

import json
import math
import zipfile
from contextlib import suppress
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import Any

import numpy as np

from mmdet.errors import UserError
from mmdet.files import load_json
from mmdet.structures.masks import check_image_size, parse_segmentations, rle_boxes

# OVIS: how much of an object is hidden in a frame
OCCLUSION_VALUES = {'no_occlusion': 0., 'slight_occlusion': .25, 'severe_occlusion': .75}
ARCHIVE_MEMBER = 'results.json'
MAX_JSON_BYTES = 2**33
PICKLE_START = b'\x80'  # of every protocol since 2; in no text


@dataclass
class Video:
    """``length`` frames of ``height`` x ``width`` pixels."""

    id: int
    height: int
    width: int
    length: int


@dataclass
class Track:
    """One object through a video, annotated or predicted; T = the video's length.

    Attributes:
        video_id, category_id: the annotation file's own.
        rles: T canonical compressed RLEs or None; empty where the file holds boxes only.
        mask_areas: (T,) int64 pixels, 0 where absent.
        boxes: (T, 4) float64 x, y, w, h in pixels, zeros where absent; None where there are none or nobody asked
            for them.
        area: pixels, the mean over the frames where it is not 0; decides small, medium, large.
        score: confidence (predictions).
        crowd: a group: ignored, and may match several predictions.
        occlusion: in [0, 1], see :func:`mean_occlusion`; None where the annotations have none.
    """

    video_id: int
    category_id: int
    rles: list[dict | None]
    mask_areas: np.ndarray
    boxes: np.ndarray | None
    area: float
    score: float = 1.
    crowd: bool = False
    occlusion: float | None = None


@dataclass
class GroundTruth:
    """An annotation file.

    Attributes:
        source: what to call it in messages.
        videos: by id, in the file's order.
        categories: name by id, in the file's order (label i is the i-th).
        tracks: the annotations; empty where the file holds none (a validation set whose annotations are not public).
    """

    source: str
    videos: dict[int, Video]
    categories: dict[int, str]
    tracks: list[Track] = field(default_factory=list)

    @property
    def has_occlusion(self) -> bool:
        """Whether it is OVIS ground truth."""
        return any(track.occlusion is not None for track in self.tracks)

    @property
    def has_boxes(self) -> bool:
        return all(track.boxes is not None for track in self.tracks)


def load_result_json(path: str | PathLike) -> Any:
    """The content of a result file: of a JSON file, or of ``results.json`` in a zip archive.

    Raises:
        UserError: the file is missing, unreadable or not JSON.
    """
    path = fspath(path)
    if path.endswith('.zip'):
        return _load_archive(path)
    with suppress(OSError), open(path, 'rb') as file:
        if file.read(1) == PICKLE_START:
            raise UserError(f'{path}: is a pickle, not JSON; give the .json file that test_video.py --out wrote beside '
                            'it')
    return load_json(path)


def _load_archive(path: str) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(ARCHIVE_MEMBER).file_size > MAX_JSON_BYTES:
                raise UserError(f'{path}: {ARCHIVE_MEMBER} is larger than {MAX_JSON_BYTES} bytes; unpack and score the '
                                'JSON file')
            return json.loads(archive.read(ARCHIVE_MEMBER))
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror or error}); check the path') from error
    except KeyError as error:
        raise UserError(f'{path}: the archive holds no {ARCHIVE_MEMBER}; pack the result under that name') from error
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError) as error:
        # RuntimeError: encrypted, or JSON nested beyond Python's recursion limit
        raise UserError(f'{path}: cannot be unpacked or parsed ({_first_line(error)}); write the file anew') from error
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f'{path}: is not JSON ({_first_line(error)}); write the file anew') from error


def read_ground_truth(source: str | PathLike | dict, tracks: bool = True) -> GroundTruth:
    """Checks a YouTube-VIS or OVIS annotation file.

    Args:
        source: path, or the file's content.
        tracks: False reads videos and categories only.

    Raises:
        UserError: something in it is not YouTube-VIS.
    """
    name = 'ground truth' if isinstance(source, dict) else fspath(source)
    content = source if isinstance(source, dict) else load_json(source)
    if not isinstance(content, dict):
        raise UserError(f'{name}: is a JSON {type(content).__name__}, not YouTube-VIS annotations (an object with '
                        'videos, categories)')
    videos: dict[int, Video] = {}
    for index, entry in enumerate(_list_of_objects(content, 'videos', name)):
        video = _read_video(entry, f'{name}: videos[{index}]')
        if videos.setdefault(video.id, video) is not video:
            raise UserError(f'{name}: videos[{index}] repeats id {video.id}; give every video its own')
    categories = {}
    for index, entry in enumerate(_list_of_objects(content, 'categories', name)):
        where = f'{name}: categories[{index}]'
        category_id = _integer(entry, 'id', where)
        if category_id in categories:
            raise UserError(f'{where} repeats id {category_id}; give every category its own')
        if not isinstance(entry.get('name'), str):
            raise UserError(f'{where}: name {entry.get("name")!r} must be text')
        categories[category_id] = entry['name']
    truth = GroundTruth(name, videos, categories)
    if tracks and content.get('annotations'):
        for index, entry in enumerate(_list_of_objects(content, 'annotations', name)):
            truth.tracks.append(_read_annotation(entry, truth, f'{name}: annotations[{index}]'))
        with_occlusion = [track.occlusion is not None for track in truth.tracks]
        if any(with_occlusion) and not all(with_occlusion):
            raise UserError(f'{name}: annotations[{with_occlusion.index(False)}] has no field occlusion, others have; '
                            'give it to all or none')
    return truth


def read_predictions(predictions: str | PathLike | list, truth: GroundTruth, metric: str = 'segm',
                     source: str | None = None) -> list[Track]:
    """Checks a YouTube-VIS result list against the annotation file it is for.

    Args:
        predictions: path of a JSON file or a zip archive, or the file's content.
        truth: the annotation file.
        metric: ``'segm'`` needs masks; ``'bbox'`` takes ``bboxes``, or those of the masks where an entry has none.
        source: what to call the predictions in messages; their path by default.

    Raises:
        UserError: an unknown video or category, a track longer or shorter than its video, a score that is not finite, a
            damaged RLE, ...
    """
    if isinstance(predictions, (str, PathLike)):
        content, name = load_result_json(predictions), source or fspath(predictions)
    else:
        content, name = predictions, source or 'result'
    if not isinstance(content, list):
        raise UserError(f'{name}: is a JSON {type(content).__name__}, not a YouTube-VIS result (a list of tracks)')
    tracks: list[Track] = []
    for index, entry in enumerate(content):
        where = f'{name}: entry {index}'
        if not isinstance(entry, dict):
            raise UserError(f'{where} is a {type(entry).__name__}, not an object with video_id, category_id, score, '
                            'segmentations')
        track = _read_track(entry, truth, where, need_masks=metric == 'segm')
        track.score = _number(entry.get('score'), f'{where}: score')
        if metric == 'bbox' and track.boxes is None:
            present = np.flatnonzero(track.mask_areas)
            track.boxes = np.zeros((len(track.rles), 4))
            track.boxes[present] = rle_boxes([rle for rle, area in zip(track.rles, track.mask_areas) if rle and area])
        tracks.append(track)
    return tracks


def check_repeats(tracks: list[Track], name: str) -> None:
    """Raises UserError if a file gives a track twice: same video, category, score and masks (or boxes)."""
    seen: dict[tuple, int] = {}
    for index, track in enumerate(tracks):
        boxes = b'' if track.boxes is None else track.boxes.tobytes()
        key = (track.video_id, track.category_id, track.score, boxes, *(rle and rle['counts'] for rle in track.rles))
        if track.area and seen.setdefault(key, index) != index:
            raise UserError(f'{name}: entry {index} is entry {seen[key]} again; keep one of them')


def mean_occlusion(values: list[float]) -> float:
    """How hidden an object is: the mean of the ceil(n / 2) highest of its n frames' values; 0 without frames."""
    worst = sorted(values, reverse=True)[:math.ceil(len(values) / 2)]
    return float(np.mean(worst)) if worst else 0.


def _read_video(entry: dict, where: str) -> Video:
    height: Any = entry.get('height')
    width: Any = entry.get('width')
    files, length = entry.get('file_names'), entry.get('length')
    check_image_size(height, width, where)
    if files is not None:
        if not isinstance(files, list):
            raise UserError(f'{where}: file_names is a {type(files).__name__}, not a list')
        length = len(files)
    if type(length) is not int or length < 0:
        raise UserError(f'{where}: needs file_names or a length')
    return Video(_integer(entry, 'id', where), height, width, length)


def _read_track(entry: dict, truth: GroundTruth, where: str, need_masks: bool) -> Track:
    """What annotations and predictions share."""
    video_id, category_id = _integer(entry, 'video_id', where), _integer(entry, 'category_id', where)
    if video_id not in truth.videos:
        raise UserError(f'{where}: video_id {video_id} is not in {truth.source}; is this a result for other videos?')
    if category_id not in truth.categories:
        raise UserError(f'{where}: category_id {category_id} is not in {truth.source}; use the annotation file\'s own '
                        'ids')
    video = truth.videos[video_id]
    rles: list[dict | None] = []
    mask_areas = np.zeros(video.length, np.int64)
    boxes = None
    if need_masks or entry.get('segmentations') is not None:
        segmentations = _per_frame(entry, 'segmentations', video, where)
        rles, mask_areas = parse_segmentations(segmentations, video.height, video.width,
                                              f'{where} (video {video.id}): segmentations')
    elif not entry.get('bboxes'):
        raise UserError(f'{where}: has neither segmentations nor bboxes')
    if entry.get('bboxes'):
        boxes = _read_boxes(_per_frame(entry, 'bboxes', video, where), f'{where}: bboxes')
    areas = boxes[:, 2:].prod(1) if boxes is not None and not rles else mask_areas
    return Track(video_id, category_id, rles, mask_areas, boxes, mean_area(areas))


def mean_area(areas: np.ndarray) -> float:
    """The mean of what is not 0; 0 if all is."""
    areas = areas[areas != 0]
    return float(areas.mean()) if len(areas) else 0.


def _read_annotation(entry: dict, truth: GroundTruth, where: str) -> Track:
    track = _read_track(entry, truth, where, need_masks=True)
    video = truth.videos[track.video_id]
    if entry.get('areas'):
        values = _per_frame(entry, 'areas', video, where)
        track.area = mean_area(np.array([_number(value, f'{where}: areas[{frame}]') if value is not None else 0.
                                         for frame, value in enumerate(values)]))
    crowd = entry.get('iscrowd', 0)
    if crowd not in (0, 1):
        raise UserError(f'{where}: iscrowd {crowd!r} must be 0 or 1')
    track.crowd = bool(crowd)
    if entry.get('occlusion') is not None:
        values = _per_frame(entry, 'occlusion', video, where)
        track.occlusion = mean_occlusion([_read_occlusion(value, f'{where}: occlusion[{frame}]')
                                          for frame, value in enumerate(values) if value is not None])
    return track


def _read_occlusion(value: Any, where: str) -> float:
    if isinstance(value, str):
        if value not in OCCLUSION_VALUES:
            raise UserError(f'{where}: {value!r} is none of {", ".join(OCCLUSION_VALUES)}')
        return OCCLUSION_VALUES[value]
    if not 0 <= _number(value, where) <= 1:
        raise UserError(f'{where}: {value!r} must lie between 0 and 1')
    return float(value)


def _read_boxes(values: list, where: str) -> np.ndarray:
    boxes = np.zeros((len(values), 4))
    for frame, value in enumerate(values):
        if value is None or value == []:
            continue
        if not isinstance(value, list) or len(value) != 4:
            raise UserError(f'{where}[{frame}]: must be x, y, w, h or null')
        boxes[frame] = [_number(side, f'{where}[{frame}]') for side in value]
    if (boxes[:, 2:] < 0).any():
        raise UserError(f'{where}[{int(np.argmax((boxes[:, 2:] < 0).any(1)))}]: width and height must not be negative')
    return boxes


def _list_of_objects(content: dict, key: str, name: str) -> list[dict]:
    values = content.get(key)
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise UserError(f'{name}: {key} must be a list of objects; is this a YouTube-VIS annotation file?')
    return values


def _per_frame(entry: dict, key: str, video: Video, where: str) -> list:
    values = entry.get(key)
    if not isinstance(values, list):
        raise UserError(f'{where}: {key} must be a list with one element per frame')
    if len(values) != video.length:
        raise UserError(f'{where}: {key} has {len(values)} elements, video {video.id} has {video.length} frames')
    return values


def _integer(entry: dict, key: str, where: str) -> int:
    value = entry.get(key)
    if type(value) is not int:
        raise UserError(f'{where}: {key} {value!r:.40} must be an integer')
    return value


def _number(value: Any, where: str) -> float:
    if type(value) not in (int, float) or not abs(value) < 1e15:
        raise UserError(f'{where} {value!r:.40} must be a finite number')
    return float(value)


def _first_line(error: Exception) -> str:
    return str(error).partition('\n')[0][:200]
