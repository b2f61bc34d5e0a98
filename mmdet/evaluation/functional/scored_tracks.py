"""What is scored: YouTube-VIS ground truth and result lists, read by :mod:`mmdet.structures.vis_json`.

``evaluate_vis``, ``YouTubeVISMetric`` and ``tools/vis_eval.py`` call it. Everything is checked before anything is
computed; the first fault is a UserError that names file, entry and field.
"""
from __future__ import annotations

import json
import zipfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from typing import Any

from mmdet.errors import UserError
from mmdet.files import load_json
from mmdet.structures.vis_json import (
    Category,
    Track,
    Video,
    check_outline,
    checked,
    read_annotation_entries,
    read_result_entries,
)

ARCHIVE_MEMBER = 'results.json'
MAX_JSON_BYTES = 2**33
PICKLE_START = b'\x80'  # of every protocol since 2; in no text


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
    """Read and check a YouTube-VIS or OVIS annotation file.

    Args:
        source: path, or the file's content.
        tracks: False reads videos and categories only.

    Raises:
        UserError: something in it is not YouTube-VIS.
    """
    name = 'ground truth' if isinstance(source, dict) else fspath(source)
    content = source if isinstance(source, dict) else load_json(source)
    check_outline(content, name)
    truth = GroundTruth(name, {}, {})
    for entry in checked(read_annotation_entries(content, file_names=False, tracks=tracks), name):
        if isinstance(entry, Video):
            truth.videos[entry.id] = entry
        elif isinstance(entry, Category):
            truth.categories[entry.id] = entry.name
        else:
            truth.tracks.append(entry)
    return truth


def read_predictions(predictions: str | PathLike | list, truth: GroundTruth, metric: str = 'segm',
                     source: str | None = None) -> list[Track]:
    """Read a YouTube-VIS result list and check it against the annotation file it is for.

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
    entries = read_result_entries(content, truth.videos, truth.categories, need_masks=metric == 'segm')
    tracks = [track for track in checked(entries, name) if isinstance(track, Track)]
    if metric == 'bbox':
        for track in tracks:
            track.boxes = track.mask_boxes() if track.boxes is None else track.boxes
    return tracks


def without_classes(truth: GroundTruth, tracks: list[Track]) -> tuple[GroundTruth, list[Track]]:
    """Put all annotations and predictions in one category, ``object``: what is scored then is finding objects only.

    An object that is predicted under several classes then has several predictions, of which one can match. The limits
    on predictions (1, 10, 100) hold for each video, no longer for each of its categories.
    """
    key = min(truth.categories)
    merged = [[replace(track, category_id=key) for track in group] for group in (truth.tracks, tracks)]
    return replace(truth, categories={key: 'object'}, tracks=merged[0]), merged[1]


def check_repeats(tracks: list[Track], name: str) -> None:
    """Raise UserError if a file gives a track twice: same video, category, score and masks (or boxes)."""
    seen: dict[tuple, int] = {}
    for index, track in enumerate(tracks):
        boxes = b'' if track.boxes is None else track.boxes.tobytes()
        key = (track.video_id, track.category_id, track.score, boxes, *(rle and rle['counts'] for rle in track.rles))
        if track.area and seen.setdefault(key, index) != index:
            raise UserError(f'{name}: entry {index} is entry {seen[key]} again; keep one of them')


def _first_line(error: Exception) -> str:
    return str(error).partition('\n')[0][:200]
