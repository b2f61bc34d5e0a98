"""The reader of YouTube-VIS JSON (2019, 2021, 2022, OVIS): annotation files and result files, checked entry by entry.

:func:`read_annotation_entries` and :func:`read_result_entries` yield pairs (entry, fault), of which one is None. Data
sets and metrics take the entries of :func:`checked`, which raises the first fault; tools/check_dataset.py lists all
faults. A fault is one line that starts with the entry it is in: ``annotation 12, segmentations[3]: ...``.

Symbols: T frames of a video.
"""
from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import PurePosixPath
from typing import Any, TypeAlias

import numpy as np

from mmdet.errors import UserError, counted, json_kind
from mmdet.structures.masks import check_image_size, parse_segmentations, rle_boxes

MAX_NUMBER = 1e9  # largest coordinate or area in pixels that is accepted; far beyond the size of any image
MAX_SCORE = 1e15
# occlusion levels of OVIS: the share of an object that is hidden in a frame
OCCLUSION_VALUES = {'no_occlusion': 0., 'slight_occlusion': .25, 'severe_occlusion': .75}


@dataclass(frozen=True)
class Category:
    """A class of objects."""

    id: int
    name: str


@dataclass(frozen=True)
class Video:
    """A video of ``length`` frames of ``height`` x ``width`` pixels; ``file_names`` is empty if it was not read."""

    id: int
    height: int
    width: int
    length: int
    file_names: tuple[str, ...] = ()


@dataclass
class Track:
    """One object through a video, annotated or predicted.

    Attributes:
        video_id, category_id: ids in the annotation file.
        rles: T canonical compressed RLEs or None; empty if the file has boxes only.
        mask_areas: (T,) int64 areas of the masks in pixels, 0 where absent.
        boxes: (T, 4) float64 x, y, w, h in pixels, zeros where absent; None if the file has no boxes.
        areas: (T,) areas in pixels, 0 where absent: those of the annotation file, else those of the masks or boxes.
        score: confidence of a prediction.
        crowd: whether it is a group of objects, which is ignored and may match several predictions.
        occlusion: occlusion in [0, 1], see :func:`mean_occlusion`; None if the annotations have no levels.
        id: id of the annotation; 0 for predictions.
    """

    video_id: int
    category_id: int
    rles: list[dict | None]
    mask_areas: np.ndarray
    boxes: np.ndarray | None
    areas: np.ndarray
    score: float = 1.
    crowd: bool = False
    occlusion: float | None = None
    id: int = 0

    @cached_property
    def area(self) -> float:
        """Mean area in pixels over the frames where it is not 0; determines the range small, medium or large."""
        areas = self.areas[self.areas != 0]
        return float(areas.mean()) if len(areas) else 0.

    def mask_boxes(self) -> np.ndarray:
        """Compute the bounding boxes of the masks: (T, 4) float64 x, y, w, h in pixels, zeros where absent."""
        boxes, present = np.zeros((len(self.rles), 4)), np.flatnonzero(self.mask_areas)
        boxes[present] = rle_boxes([rle for rle, area in zip(self.rles, self.mask_areas) if rle and area])
        return boxes


Entry: TypeAlias = Category | Video | Track


def checked(entries: Iterable[tuple[Entry | None, str | None]], source: str) -> Iterator[Entry]:
    """Yield the entries; raise UserError with the name of the source at the first fault."""
    for entry, fault in entries:
        if entry is None:
            raise UserError(f'{source}: {fault}')
        yield entry


def check_outline(content: Any, source: str) -> None:
    """Raise UserError unless the content of an annotation file has the lists required by YouTube-VIS JSON."""
    if not isinstance(content, dict):
        remedy = 'results are such lists; give the annotation file' if isinstance(content, list) else 'check the path'
        raise UserError(f'{source}: is {json_kind(content)}, not YouTube-VIS annotations (an object with '
                        f'videos and categories); {remedy}')
    for key in ('videos', 'categories'):
        if not isinstance(content.get(key), list) or not content[key]:
            is_coco = isinstance(content.get('images'), list) and 'videos' not in content
            remedy = ('it is COCO JSON: convert it with coco2yvis.py or cocoframes2yvis.py in tools/dataset_converters'
                      if is_coco else 'check the path')
            raise UserError(f'{source}: is not YouTube-VIS JSON: it needs a non-empty list {key!r}; {remedy}')
    if not isinstance(content.get('annotations'), list | None):
        raise UserError(f"{source}: is not YouTube-VIS JSON: 'annotations' must be a list; check the path")


def read_annotation_entries(content: dict, file_names: bool = True, tracks: bool = True, occlusion: bool = True,
                            need_masks: bool = True) -> Iterator[tuple[Entry | None, str | None]]:
    """Yield all categories, then all videos, then all tracks of an annotation file, as pairs (entry, fault).

    An entry with a fault is still yielded, after the fault, if its other fields can be used.

    Args:
        content: content of the file, checked by :func:`check_outline`; ``annotations`` may be missing (test sets).
        file_names: read the names of the images, which are then required; otherwise ``length`` is enough.
        tracks: read the annotations.
        occlusion: read the occlusion levels of OVIS.
        need_masks: an annotation without ``segmentations`` is a fault even if it has ``bboxes``.
    """
    categories: dict[int, Any] = {}
    for category_id, entry, where, fault in _with_ids(content['categories'], 'categories'):
        if fault:
            yield None, fault
        elif not isinstance(entry.get('name'), str) or not entry['name']:
            categories[category_id] = None
            yield None, f'{where} has no name; give each category one'
        else:
            categories[category_id] = Category(category_id, entry['name'])
            yield categories[category_id], None
    videos: dict[int, Video | None] = {}
    for video_id, entry, _, fault in _with_ids(content['videos'], 'videos'):
        if fault:
            yield None, fault
            continue
        videos[video_id], faults = _read_video(entry, video_id, file_names)
        yield from ((None, fault) for fault in faults)
        if videos[video_id]:
            yield videos[video_id], None
    if not tracks:
        return
    known = {ident: video for ident, video in videos.items() if video}
    with_occlusion: dict[bool, str] = {}
    for annotation_id, entry, where, fault in _with_ids(content.get('annotations') or [], 'annotations'):
        if fault:
            yield None, fault
        if not isinstance(entry, dict):
            continue
        where = where if annotation_id is None else f'annotation {annotation_id}'
        track, faults = _read_track(entry, where, videos, categories, need_masks)
        if track:
            faults += _read_annotated(track, entry, known[track.video_id], where, occlusion)
            track.id = annotation_id or 0
            with_occlusion.setdefault(track.occlusion is not None, where)
        yield from ((None, fault) for fault in faults)
        if track:
            yield track, None
    if len(with_occlusion) > 1:
        yield None, f'{with_occlusion[False]} has no occlusion, others have; give it to all annotations or to none'


def read_result_entries(content: list, videos: Mapping[int, Video], categories: Mapping[int, Any],
                        need_masks: bool = True) -> Iterator[tuple[Entry | None, str | None]]:
    """Yield a :class:`Track` for each entry of a result list, as pairs (entry, fault).

    Args:
        content: content of the file.
        videos, categories: those of the annotation file, by id.
        need_masks: an entry without ``segmentations`` is a fault even if it has ``bboxes``.
    """
    for index, entry in enumerate(content):
        where = f'entry {index}'
        if not isinstance(entry, dict):
            yield None, (f'{where} is {json_kind(entry)}, not an object with video_id, category_id, score and '
                         'segmentations')
            continue
        if 'image_id' in entry and 'video_id' not in entry:
            yield None, (f'{where} has image_id instead of video_id: it is a COCO result, of images; give a list of '
                         'tracks of videos')
            continue
        track, faults = _read_track(entry, where, videos, categories, need_masks)
        score: Any = entry.get('score')
        if not _is_number(score, MAX_SCORE):
            faults.append(f'{where}: score {score!r:.40} must be a finite number')
        elif track:
            track.score = float(score)
        yield from ((None, fault) for fault in faults)
        if track:
            yield track, None


def checked_ids(entries: list, key: str, source: str) -> list[int]:
    """Return the ids of the entries of a list; raise UserError unless they are unique 64-bit integers."""
    ids = []
    for ident, _, _, fault in _with_ids(entries, key):
        if fault or ident is None:
            raise UserError(f'{source}: {fault}')
        ids.append(ident)
    return ids


def mean_occlusion(values: list[float]) -> float:
    """Compute the occlusion of an object: the mean of the ceil(n / 2) highest values of its n frames; 0 if n is 0."""
    worst = sorted(values, reverse=True)[:math.ceil(len(values) / 2)]
    return float(np.mean(worst)) if worst else 0.


def _with_ids(entries: list, key: str) -> Iterator[tuple[Any, Any, str, str | None]]:
    """Yield id, entry, name in messages and fault of the id of each entry; an id that is not valid is None."""
    first: dict[int, int] = {}
    for index, entry in enumerate(entries):
        where = f'{key}[{index}]'
        ident = entry.get('id') if isinstance(entry, dict) else None
        if type(ident) is not int or abs(ident) >= 2 ** 63:
            yield None, entry, where, f'{where} must be an object with an integer id'
        elif first.setdefault(ident, index) != index:
            yield ident, entry, where, f'{where} and [{first[ident]}] have the same id {ident}; make the ids unique'
        else:
            yield ident, entry, where, None


def _read_video(entry: dict, video_id: int, file_names: bool) -> tuple[Video | None, list[str]]:
    where, faults = f'video {video_id}', []
    try:
        check_image_size(entry.get('height'), entry.get('width'), where)
    except UserError as error:
        faults.append(str(error))
    names: Any = entry.get('file_names')
    length = entry.get('length')
    usable = not faults
    if file_names or names is not None:
        if not isinstance(names, list) or (file_names and not names):
            faults.append(f"{where} has no list 'file_names'; is this YouTube-VIS JSON?")
            return None, faults
        length = len(names)
    if type(length) is not int or length < 0:
        faults.append(f'{where} needs file_names or a length')
        return None, faults
    if file_names:
        faults += [fault for name in names if (fault := _fault_of_name(name, where))]
    if not usable:
        return None, faults
    kept = tuple(name if isinstance(name, str) else '' for name in names) if file_names else ()
    return Video(video_id, entry['height'], entry['width'], length, kept), faults


def _fault_of_name(name: Any, where: str) -> str | None:
    """Return the fault of the file name of an image, or None; spaces of all kinds and all scripts are valid."""
    if not isinstance(name, str) or not name or _has_control_characters(name):
        return f'{where}: file name {name!r:.80} is not a path; correct file_names'
    if name.startswith('/') or '..' in PurePosixPath(name).parts:
        return f'{where}: file name {name!r:.80} leads out of the image folder; correct file_names'
    return None


def _has_control_characters(name: str) -> bool:
    """Return whether a name has control characters or lone surrogates; ASCII names take a fast path."""
    if name.isascii():
        return not name.isprintable()
    return any(unicodedata.category(char) in ('Cc', 'Cs') for char in name)


def _read_track(entry: dict, where: str, videos: Mapping[int, Video | None], categories: Mapping[int, Any],
                need_masks: bool = True) -> tuple[Track | None, list[str]]:
    """Read the fields of annotations and predictions; return None if video, category or masks cannot be used."""
    faults: list[str] = []
    for key, known in (('video_id', videos), ('category_id', categories)):
        if type(entry.get(key)) is not int:
            faults.append(f'{where}: {key} {entry.get(key)!r:.40} must be an integer')
        elif entry[key] not in known:
            faults.append(f'{where}: {key} {entry[key]} is not in the annotation file; use its own ids')
    # with a faulty category, the masks are checked nevertheless
    video = videos.get(entry['video_id']) if type(entry.get('video_id')) is int else None
    if video is None:
        return None, faults
    rles: list[dict | None] = []
    mask_areas, boxes = np.zeros(video.length, np.int64), None
    if need_masks or entry.get('segmentations') is not None:
        segmentations = _per_frame(entry, 'segmentations', video, where, faults)
        if segmentations is None:
            return None, faults
        rles, mask_areas = _read_masks(segmentations, video, f'{where}, segmentations', faults)
    elif not entry.get('bboxes'):
        faults.append(f'{where} has neither segmentations nor bboxes')
        return None, faults
    if entry.get('bboxes') and (rows := _per_frame(entry, 'bboxes', video, where, faults)) is not None:
        boxes = _read_boxes(rows, f'{where}, bboxes', faults)
    areas = boxes[:, 2:].prod(1) if boxes is not None and not rles else mask_areas
    category_id = entry.get('category_id')
    if type(category_id) is not int:
        return None, faults
    return Track(video.id, category_id, rles, mask_areas, boxes, areas), faults


def _read_annotated(track: Track, entry: dict, video: Video, where: str, occlusion: bool) -> list[str]:
    """Read the fields that only annotations have; return the faults."""
    faults: list[str] = []
    if entry.get('areas') and (values := _per_frame(entry, 'areas', video, where, faults)) is not None:
        track.areas = _read_areas(values, f'{where}, areas', faults)
    crowd = 0 if entry.get('iscrowd') is None else entry['iscrowd']
    if type(crowd) not in (int, bool) or crowd not in (0, 1):
        faults.append(f'{where}: iscrowd {crowd!r:.40} must be 0 or 1')
    track.crowd = bool(crowd)
    if occlusion and entry.get('occlusion') is not None \
            and (values := _per_frame(entry, 'occlusion', video, where, faults)) is not None:
        levels = []
        for frame, value in enumerate(values):
            level: Any = OCCLUSION_VALUES.get(value) if isinstance(value, str) else value
            if value is not None and not (_is_number(level, 1) and level >= 0):
                faults.append(f'{where}, occlusion[{frame}]: {value!r:.40} must lie between 0 and 1 or be one of '
                              f'{", ".join(OCCLUSION_VALUES)}')
            elif value is not None:
                levels.append(float(level))
        track.occlusion = mean_occlusion(levels)
    return faults


def _per_frame(entry: dict, key: str, video: Video, where: str, faults: list[str]) -> list | None:
    values = entry.get(key)
    if isinstance(values, list) and len(values) == video.length:
        return values
    if key == 'segmentations' and values is None and entry.get('bboxes'):
        faults.append(f'{where} has bboxes but no segmentations; add them, or score boxes only (--metric bbox of '
                      'tools/vis_eval.py, --eval bbox of test_video.py)')
        return None
    found = f'has {counted(len(values), "entry")}' if isinstance(values, list) else f'is {json_kind(values)}'
    faults.append(f'{where}: {key} {found}, video {video.id} has {counted(video.length, "frame")}; give one entry or '
                  'null for each frame')
    return None


def _read_masks(segmentations: list, video: Video, where: str,
                faults: list[str]) -> tuple[list[dict | None], np.ndarray]:
    """Read the RLEs and their areas; a faulty mask counts as absent."""
    size = video.height, video.width
    try:
        return parse_segmentations(segmentations, *size, where)
    except UserError:
        pass
    rles: list[dict | None] = []
    areas = np.zeros(video.length, np.int64)
    for frame, segmentation in enumerate(segmentations):
        try:
            (rle,), areas[frame:frame + 1] = parse_segmentations([segmentation], *size, where)
            rles.append(rle)
        except UserError as error:
            rles.append(None)
            faults.append(str(error).replace(f'{where}[0]', f'{where}[{frame}]', 1))
    return rles, areas


def _read_boxes(rows: list, where: str, faults: list[str]) -> np.ndarray:
    """Read the boxes (T, 4); a faulty box counts as absent."""
    boxes = np.zeros((len(rows), 4))
    shown = [frame for frame, row in enumerate(rows) if row is not None and row != []]
    if all(type(rows[frame]) is list and len(rows[frame]) == 4 for frame in shown) \
            and set(map(type, chain.from_iterable(rows[frame] for frame in shown))) <= {int, float}:
        with suppress(OverflowError):
            found = np.array([rows[frame] for frame in shown], np.float64).reshape(-1, 4)
            if (np.abs(found) <= MAX_NUMBER).all() and (found[:, 2:] >= 0).all():
                boxes[shown] = found
                return boxes
    for frame in shown:
        row = rows[frame]
        if not isinstance(row, list) or len(row) != 4 or not all(_is_number(value, MAX_NUMBER) for value in row):
            faults.append(f'{where}[{frame}]: {row!r:.60} must be [x, y, width, height] or null: finite numbers of at '
                          f'most {MAX_NUMBER:.0e}')
        elif row[2] < 0 or row[3] < 0:
            faults.append(f'{where}[{frame}]: {row!r:.60}: width and height must not be negative')
        else:
            boxes[frame] = row
    return boxes


def _read_areas(values: list, where: str, faults: list[str]) -> np.ndarray:
    """Read the areas (T,); null and faulty areas become 0."""
    areas = np.zeros(len(values))
    for frame, value in enumerate(values):
        if _is_number(value, MAX_NUMBER) and value >= 0:
            areas[frame] = value
        elif value is not None:
            faults.append(f'{where}[{frame}]: {value!r:.40} must be null or a finite number from 0 to '
                          f'{MAX_NUMBER:.0e}')
    return areas


def _is_number(value: Any, limit: float) -> bool:
    return type(value) in (int, float) and abs(value) <= limit
