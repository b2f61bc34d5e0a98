"""Result files of a test: ``X.pkl`` (by frame), ``X.pkl.json`` (by track, for evaluation servers) and ``X.pkl.zip``.

``YouTubeVISMetric`` writes them in one pass with one video in memory, and reads ``X.pkl`` for ``--load_result``. Files
are written atomically. Reading a pickle calls nothing that the file names: the classes below restore arrays from their
bytes instead of NumPy.
"""
from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import IO, Any

import numpy as np

from mmdet.errors import UserError, counted
from mmdet.evaluation.frame_results import BOX_VALUES, ROW_VALUES, FrameResult, track_entries
from mmdet.evaluation.functional.scored_tracks import (
    ARCHIVE_MEMBER,
    PICKLE_START,
    GroundTruth,
    check_repeats,
    read_predictions,
)
from mmdet.files import atomic_open
from mmdet.structures.vis_json import Track, Video


class _StreamedList:
    """An iterator that is pickled as a list, with one item at a time in memory."""

    def __init__(self, items: Iterator) -> None:
        self.items = items

    def __reduce__(self) -> tuple:
        return list, (), None, self.items


def check_result_name(out: str) -> None:
    """Raise UserError unless the name of a file for results by frame ends in ``.pkl`` or ``.pickle``."""
    if not out.endswith(('.pkl', '.pickle')):
        raise UserError(f'--out {out}: must end in .pkl')


def write_results(out: str, videos: Iterable[tuple[Video, Sequence[FrameResult], list[dict]]], dump_bbox: bool = False,
                  archive: bool = False) -> list[str]:
    """Write the result files.

    Args:
        out: ``X.pkl``: a list of one ``({id: {'bbox': (10,) or (5,) float32, 'label': int}}, {id: RLE})`` per frame.
        videos: for each video, in the order of the annotation file: the video, its frames in order, and its entries
            (see ``track_entries``).
        dump_bbox: keep ``bboxes`` in ``X.pkl.json``.
        archive: also write ``X.pkl.zip``, which contains the same list as ``results.json``.

    Returns:
        The paths written.

    Raises:
        UserError: a file cannot be written.
    """
    written = [out, f'{out}.json']
    with atomic_open(out) as frame_file, atomic_open(f'{out}.json', 'w') as track_file:
        pickler = pickle.Pickler(frame_file, protocol=4)
        # no memo: it would hold every frame in memory, and make the bytes depend on which objects are shared
        pickler.fast = True
        pickler.dump(_StreamedList(_write_tracks(track_file, videos, dump_bbox)))
    if archive:
        written.append(f'{out}.zip')
        with atomic_open(f'{out}.zip') as file, zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as packed, \
                open(f'{out}.json', 'rb') as source:
            # a fixed date: the same result gives the same archive
            member = zipfile.ZipInfo(ARCHIVE_MEMBER, (1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            with packed.open(member, 'w', force_zip64=True) as target:
                while block := source.read(2**20):
                    target.write(block)
    return written


def _write_tracks(file: IO, videos: Iterable[tuple[Video, Sequence[FrameResult], list[dict]]],
                  dump_bbox: bool) -> Iterator[tuple[dict, dict]]:
    """Write the entries of each video as JSON and yield its frames."""
    separator = '['
    for video, frames, entries in videos:
        for entry in entries:
            kept = entry if dump_bbox else {key: value for key, value in entry.items() if key != 'bboxes'}
            file.write(separator + json.dumps(kept, separators=(',', ':')))
            separator = ',\n'
        for frame in frames:
            yield frame.to_pickled(video)
    file.write('[]' if separator == '[' else ']')


class _StoredDtype:
    """Substitute for ``numpy.dtype`` in unpickling; accepts float32 and float64 only."""

    def __init__(self, code: str, *_: Any) -> None:
        if code not in ('f4', 'f8'):
            raise pickle.UnpicklingError(f'an array of type {code!r}')
        self.code = code

    def __setstate__(self, state: tuple) -> None:
        if state[1] != '<':
            raise pickle.UnpicklingError(f'an array of byte order {state[1]!r}')


class _StoredArray:
    """Substitute for ``numpy.ndarray`` in unpickling; restores an array from its bytes."""

    row: np.ndarray

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, _, data = state
        if not isinstance(dtype, _StoredDtype) or not isinstance(data, bytes):
            raise pickle.UnpicklingError('an array that is not plain numbers')
        self.row = np.frombuffer(data, f'<{dtype.code}').reshape(shape).astype(np.float32)


def _stored_array(*_: Any) -> _StoredArray:
    return _StoredArray()


class _ResultUnpickler(pickle.Unpickler):
    """Unpickle lists, dicts and arrays of numbers; any other name in the file raises an error before it is imported."""

    allowed = {('builtins', 'list'): list, ('numpy', 'ndarray'): _StoredArray, ('numpy', 'dtype'): _StoredDtype,
               ('numpy._core.multiarray', '_reconstruct'): _stored_array,
               ('numpy.core.multiarray', '_reconstruct'): _stored_array}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f'it refers to {module}.{name}')
        return self.allowed[module, name]


def load_results(path: str, videos: Sequence[Video]) -> list[list[FrameResult]]:
    """Read ``X.pkl``, which need not come from a trusted source.

    Args:
        path: path of the pickle.
        videos: videos that the results must belong to, in the order of the annotation file.

    Returns:
        The frames of each video.

    Raises:
        UserError: the file is not a result file, is damaged or malicious, or belongs to other videos.
    """
    try:
        with open(path, 'rb') as file:
            content = _ResultUnpickler(file).load()
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); check the path') from error
    except Exception as error:  # a damaged pickle raises nearly anything
        if _holds_tracks(path):
            raise UserError(f'{path}: holds tracks, not frames; give the .pkl that test_video.py --out wrote beside '
                            'it, or score this file with tools/vis_eval.py') from error
        raise UserError(f'{path}: is not a result file ({type(error).__name__}: {error!s:.100}); '
                        'give the .pkl that test_video.py --out wrote') from error
    expected = sum(video.length for video in videos)
    if not isinstance(content, list) or any(isinstance(entry, dict) for entry in content[:1]):
        found = 'tracks' if isinstance(content, list) else f'a {type(content).__name__}'
        raise UserError(f'{path}: holds {found}, not frames; give the .pkl that test_video.py --out wrote')
    if len(content) != expected:
        raise UserError(f'{path}: holds {counted(len(content), "frame")}, the annotation file has '
                        f'{counted(expected, "frame")}; is it a result for other videos? {path}.json, which has the '
                        'ids of the videos, can be scored by --common_videos of tools/vis_eval.py')
    frames = iter(enumerate(content))
    return [[_read_frame(*next(frames), video, path) for _ in range(video.length)] for video in videos]


def load_tracks(path: str, truth: GroundTruth,
                common_videos: bool = False) -> tuple[list[Track], list[list[FrameResult]] | None]:
    """Read a result file of any format: ``X.pkl``, ``X.pkl.json`` or ``X.pkl.zip``.

    Args:
        path: path of the file.
        truth: annotations that the result belongs to.
        common_videos: leave out the tracks of videos that are not annotated; not possible for a pickle, which has no
            ids of videos.

    Returns:
        The tracks; and the frames of each video if the file is a pickle, the only format with scores and uncertainties
        by frame, else None.

    Raises:
        UserError: the file is damaged, belongs to other videos, or contains a track twice.
    """
    frames, content = None, None
    with suppress(OSError), open(path, 'rb') as file:
        if file.read(1) == PICKLE_START:
            frames = load_results(path, list(truth.videos.values()))
            content = [entry for video, of_video in zip(truth.videos.values(), frames)
                       for entry in track_entries(video, of_video, tuple(truth.categories))]
    tracks = read_predictions(path if content is None else content, truth, source=path, common_videos=common_videos)
    check_repeats(tracks, path)
    return tracks, frames


def _holds_tracks(path: str) -> bool:
    """Return whether a file begins like ``X.pkl.json`` (a JSON list) or ``X.pkl.zip``."""
    with open(path, 'rb') as file:
        start = file.read(64).lstrip()
    return start.startswith((b'[', b'PK'))


def _read_frame(index: int, frame: Any, video: Video, path: str) -> FrameResult:
    where = f'{path}: frame {index} (video {video.id})'
    if not isinstance(frame, tuple) or len(frame) != 2 or not all(isinstance(part, dict) for part in frame):
        raise UserError(f'{where} is not a pair ({{id: box}}, {{id: RLE}}); give the .pkl that test_video.py --out '
                        'wrote')
    boxes, masks = frame
    if boxes.keys() != masks.keys() or not all(type(track_id) is int for track_id in boxes):
        raise UserError(f'{where}: boxes and masks must have the same integer track ids; the file is damaged')
    result = FrameResult.empty()
    rows = []
    for track_id, box in boxes.items():
        row, label = (box.get('bbox'), box.get('label')) if isinstance(box, dict) else (None, None)
        if not isinstance(row, _StoredArray) or row.row.shape not in ((BOX_VALUES,), (ROW_VALUES,)):
            raise UserError(f'{where}: bbox of track {track_id} must be an array of {BOX_VALUES} or {ROW_VALUES} '
                            'numbers')
        sigmas = row.row[BOX_VALUES:BOX_VALUES + 4]
        if not ((sigmas >= 0) & (sigmas < np.inf)).all():
            raise UserError(f'{where}: the uncertainties {[round(sigma, 3) for sigma in sigmas.tolist()]} of track '
                            f'{track_id} must be finite and not negative')
        if type(label) is not int or label < 0:
            raise UserError(f'{where}: label {label!r:.40} of track {track_id} must be an integer from 0 on')
        rle = masks[track_id]
        counts = rle.get('counts') if isinstance(rle, dict) else None
        if not isinstance(counts, (bytes, str)):
            raise UserError(f'{where}: the mask of track {track_id} is not a compressed RLE')
        if list(rle.get('size') or ()) != [video.height, video.width]:
            raise UserError(f'{where}: the mask of track {track_id} has size {rle.get("size")!r:.40}, the video '
                            f'{[video.height, video.width]}; is it a result for other videos?')
        rows.append(row.row)
        result.ids.append(track_id)
        result.labels.append(label)
        result.counts.append(counts.decode('latin-1') if isinstance(counts, bytes) else counts)
    if len({len(row) for row in rows}) > 1:
        raise UserError(f'{where}: bbox arrays of different lengths; the file is damaged')
    if rows:
        result.rows = np.stack(rows)
    return result
