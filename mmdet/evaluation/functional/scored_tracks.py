"""Ground truth and result lists in YouTube-VIS format, read by :mod:`mmdet.structures.vis_json`.

Called by ``evaluate_vis``, ``YouTubeVISMetric`` and ``tools/vis_eval.py``. Files are checked completely before scores
are computed; the first fault raises a UserError that names the file, the entry and the field.
"""
from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from typing import Any

from mmengine.logging import print_log

from mmdet.errors import UserError, counted, json_kind
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
PICKLE_START = b'\x80'  # first byte of a pickle since protocol 2; no UTF-8 text begins with it


@dataclass
class GroundTruth:
    """The content of an annotation file.

    Attributes:
        source: name of the file in messages.
        videos: videos by id, in the order of the file.
        categories: category names by id, in the order of the file (label i is the i-th).
        tracks: annotations; empty if the file has none (a validation set whose annotations are not public).
    """

    source: str
    videos: dict[int, Video]
    categories: dict[int, str]
    tracks: list[Track] = field(default_factory=list)

    def of_classes(self, names: Sequence[str]) -> GroundTruth:
        """Return the ground truth of some of the categories; label i is then the i-th name. Videos stay.

        Raises:
            UserError: there is no category of one of the names.
        """
        ids = {name: key for key, name in self.categories.items()}
        unknown = [name for name in names if name not in ids]
        if unknown:
            raise UserError(f'{self.source}: has no category {unknown[0]!r}, so its categories are not the data '
                            'set\'s; give the metric the data set\'s own ann_file')
        chosen = {ids[name]: name for name in names}
        return replace(self, categories=chosen, tracks=[track for track in self.tracks if track.category_id in chosen])

    @property
    def has_occlusion(self) -> bool:
        """Whether the annotations have occlusion levels, as those of OVIS."""
        return any(track.occlusion is not None for track in self.tracks)

    @property
    def has_boxes(self) -> bool:
        return all(track.boxes is not None for track in self.tracks)

    @property
    def has_masks(self) -> bool:
        return all(track.rles or not self.videos[track.video_id].length for track in self.tracks)


def load_result_json(path: str | PathLike) -> Any:
    """Return the content of a result file: a JSON file, or ``results.json`` in a zip archive.

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


def load_result_list(path: str | PathLike) -> list:
    """Return the entries of a result file, see :func:`load_result_json`.

    Raises:
        UserError: the file is missing, unreadable, not JSON or not a list.
    """
    content = load_result_json(path)
    _check_list(content, fspath(path))
    return content


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


def read_ground_truth(source: str | PathLike | dict, tracks: bool = True, need_masks: bool = True,
                      file_names: bool = False) -> GroundTruth:
    """Read and check a YouTube-VIS or OVIS annotation file.

    Args:
        source: path or content of the file.
        tracks: read the annotations; False: read videos and categories only.
        need_masks: require masks; False: accept annotations with ``bboxes`` only, for the metric ``'bbox'``.
        file_names: read the names of the frames, which are then required.

    Raises:
        UserError: the file cannot be read or is not valid.
    """
    name = 'ground truth' if isinstance(source, dict) else fspath(source)
    content = source if isinstance(source, dict) else load_json(source)
    check_outline(content, name)
    truth = GroundTruth(name, {}, {})
    for entry in checked(read_annotation_entries(content, file_names=file_names, tracks=tracks,
                                                 need_masks=need_masks), name):
        if isinstance(entry, Video):
            truth.videos[entry.id] = entry
        elif isinstance(entry, Category):
            truth.categories[entry.id] = entry.name
        else:
            truth.tracks.append(entry)
    return truth


def read_predictions(predictions: str | PathLike | list, truth: GroundTruth, metric: str = 'segm',
                     source: str | None = None, common_videos: bool = False) -> list[Track]:
    """Read a YouTube-VIS result list and check it against the annotation file that it belongs to.

    Args:
        predictions: path of a JSON file or a zip archive, or the content of the file.
        truth: the annotations.
        metric: ``'segm'`` requires masks; ``'bbox'`` uses ``bboxes``, or the boxes of the masks of an entry without.
        source: name of the predictions in messages; None: their path.
        common_videos: leave out the entries of videos that the annotation file lacks, see :func:`of_common_videos`.

    Raises:
        UserError: the file or an entry is not valid; for example, a video or category is unknown, a track and its video
            have different lengths, a score is not finite, or an RLE is damaged.
    """
    if isinstance(predictions, (str, PathLike)):
        content, name = load_result_json(predictions), source or fspath(predictions)
    else:
        content, name = predictions, source or 'result'
    _check_list(content, name)
    if common_videos:
        content = of_common_videos(content, truth, name)
    elif others := _of_other_videos(content, truth):
        raise UserError(f'{name}: entry {content.index(others[0])}: video_id {others[0]["video_id"]} is not in the '
                        f'annotation file; use its own ids, or leave out such entries ({len(others)} of '
                        f'{len(content)}) with --common-videos')
    entries = read_result_entries(content, truth.videos, truth.categories, need_masks=metric == 'segm')
    tracks = [track for track in checked(entries, name) if isinstance(track, Track)]
    if metric == 'bbox':
        for track in tracks:
            track.boxes = track.mask_boxes() if track.boxes is None else track.boxes
    return tracks


def of_common_videos(entries: list, truth: GroundTruth, name: str) -> list:
    """Return the entries of a result list whose video is annotated; the others are counted in one line of the log.

    An annotated video without entries stays: it is a video in which nothing was found.

    Args:
        entries: content of the result file.
        truth: the annotations.
        name: name of the result in messages.

    Raises:
        UserError: the content is not a list, or no entry belongs to an annotated video.
    """
    _check_list(entries, name)
    others = _of_other_videos(entries, truth)
    if others and len(others) == len(entries):
        raise UserError(f'{name}: none of its entries belongs to a video of {truth.source}; give annotations of the '
                        'same videos, whose ids are compared')
    if others:
        videos = {entry['video_id'] for entry in others}
        print_log(f'{name}: left out: {len(others)} of {counted(len(entries), "entry")}, of '
                  f'{counted(len(videos), "video")} not in {truth.source}', logger='current')
    left_out = set(map(id, others))
    return [entry for entry in entries if id(entry) not in left_out]


def _of_other_videos(entries: list, truth: GroundTruth) -> list[dict]:
    return [entry for entry in entries if isinstance(entry, dict) and type(entry.get('video_id')) is int
            and entry['video_id'] not in truth.videos]


def without_classes(truth: GroundTruth, tracks: list[Track]) -> tuple[GroundTruth, list[Track]]:
    """Merge all categories into one, ``object``, to score the localisation without the classification.

    An object that is predicted with several classes then has several predictions, of which only one can match. The
    limits on the number of predictions (1, 10, 100) apply per video, not per video and category.
    """
    key = min(truth.categories)
    merged = [[replace(track, category_id=key) for track in group] for group in (truth.tracks, tracks)]
    return replace(truth, categories={key: 'object'}, tracks=merged[0]), merged[1]


def _check_list(content: Any, name: str) -> None:
    if not isinstance(content, list):
        remedy = ('it holds annotations; give the result file'
                  if isinstance(content, dict) and content.keys() & {'videos', 'images'} else 'check the path')
        raise UserError(f'{name}: is {json_kind(content)}, not a YouTube-VIS result (a list of tracks); '
                        f'{remedy}')


def check_repeats(tracks: list[Track], name: str) -> None:
    """Raise UserError if a file contains a track twice, with the same video, category, score and masks (or boxes)."""
    seen: dict[tuple, int] = {}
    for index, track in enumerate(tracks):
        boxes = b'' if track.boxes is None else track.boxes.tobytes()
        key = (track.video_id, track.category_id, track.score, boxes, *(rle and rle['counts'] for rle in track.rles))
        if track.area and seen.setdefault(key, index) != index:
            raise UserError(f'{name}: entry {index} repeats entry {seen[key]}; keep one of them')


def _first_line(error: Exception) -> str:
    return str(error).partition('\n')[0][:200]
