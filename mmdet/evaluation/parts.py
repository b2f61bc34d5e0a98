"""Part files: the frame results of one process as JSON lines, written frame by frame and read video by video.

``YouTubeVISMetric`` writes one per process, so that the memory needed does not depend on the size of the test set, and
no result is lost after an interrupt. The folder ``X.pkl.parts/`` contains ``rank_0.jsonl`` and so on; it is removed
when ``X.pkl`` is complete. A line is ``video_id frame_id [ids, labels, rows, counts]``. For models that know labels and
scores only at the end of a video, the line ``video_id -1 [[id, label, score], ...]`` precedes that of the last frame.
"""
from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mmdet.errors import UserError
from mmdet.evaluation.frame_results import FrameResult, VideoTracks
from mmdet.structures.vis_json import Video

_TRACKS = -1  # instead of a frame id


class PartWriter:
    """Write one part file; an existing file is overwritten.

    Args:
        path: path of the file; its folder is created.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        with self._disk_errors():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self._file = open(path, 'w')  # noqa: SIM115  open as long as the test runs

    def add(self, video_id: int, frame_id: int, frame: FrameResult) -> None:
        with self._disk_errors():
            self._file.write(f'{video_id} {frame_id} {frame.to_json()}\n')

    def add_tracks(self, video_id: int, tracks: VideoTracks) -> None:
        """Add the tracks of a whole video; to be called before its last frame is added."""
        with self._disk_errors():
            self._file.write(f'{video_id} {_TRACKS} {json.dumps(tracks)}\n')

    def flush(self) -> None:
        """Pass all added lines to the operating system, so that they are kept if this process is killed."""
        with self._disk_errors():
            self._file.flush()

    def close(self) -> None:
        with self._disk_errors():
            self._file.close()

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f'{self.path}: cannot be written ({error.strerror}); free space or choose another '
                            '--out') from error


class PartReader:
    """Read the frames of videos from the part files of all processes; memory holds only positions in the files.

    A line truncated by an interrupt is left out. If a frame occurs twice, the first one is used.

    Args:
        paths: part files in the order of the ranks.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths
        self._places: dict[int, dict[int, tuple[int, int]]] = {}  # video id: frame id: file, offset
        for number, path in enumerate(paths):
            offset = 0
            with open(path, 'rb') as file:
                for line in file:
                    if line.endswith(b'\n'):
                        video_id, frame_id = map(int, line.split(b' ', 2)[:2])
                        self._places.setdefault(video_id, {}).setdefault(frame_id, (number, offset))
                    offset += len(line)

    def has_run(self, video: Video) -> bool:
        """Return whether the last frame of a video was written; frames are written in order."""
        return video.length - 1 in self._places.get(video.id, ())

    def frames(self, video: Video) -> list[FrameResult]:
        """Return the frames of a video in order; frames without a result are empty."""
        frames = [FrameResult.empty() for _ in range(video.length)]
        places = dict(self._places.get(video.id, {}))
        tracks = self._tracks(*places.pop(_TRACKS)) if _TRACKS in places else None
        for number in sorted({number for number, _ in places.values()}):
            with open(self._paths[number], 'rb') as file:
                for frame_id, (of, offset) in places.items():
                    if of == number:
                        file.seek(offset)
                        frames[frame_id] = FrameResult.from_json(file.readline().split(b' ', 2)[2])
        return frames if tracks is None else [frame.of_tracks(tracks, video) for frame in frames]

    def _tracks(self, number: int, offset: int) -> VideoTracks:
        with open(self._paths[number], 'rb') as file:
            file.seek(offset)
            return [tuple(track) for track in json.loads(file.readline().split(b' ', 2)[2])]
