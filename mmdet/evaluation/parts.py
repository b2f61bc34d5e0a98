"""The part file of one process: frame results as JSON lines, written as they come, read back video by video.

``YouTubeVISMetric`` keeps one per process, so that host memory stays flat however long the test set is, and an
interrupt loses nothing that was written. A folder ``X.pkl.parts/`` holds ``rank_0.jsonl`` and so on; it is removed
once ``X.pkl`` is complete. A line is ``video_id frame_id [ids, labels, rows, counts]`` or, of models that know labels
and scores at a video's end only, before that of its last frame, ``video_id -1 [[id, label, score], ...]``.
"""
from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mmdet.errors import UserError
from mmdet.evaluation.frame_results import FrameResult, VideoTracks
from mmdet.structures.vis_json import Video

_TRACKS = -1  # in place of a frame's number


class PartWriter:
    """Write one part file; an older one of the same name is overwritten.

    Args:
        path: of the file; its folder is made.

    Raises:
        UserError: it cannot be written.
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
        """The results of the whole video; called before its last frame is added."""
        with self._disk_errors():
            self._file.write(f'{video_id} {_TRACKS} {json.dumps(tracks)}\n')

    def flush(self) -> None:
        """Flush what was added to the operating system, so that it survives the end of this process."""
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
    """Frames by video from the part files of all processes; keeps positions in the files, not their content.

    A line cut off by an interrupt is left out. Of a frame given twice the first counts.

    Args:
        paths: part files, in rank order.
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
        """Whether the video's last frame is there (frames come in order)."""
        return video.length - 1 in self._places.get(video.id, ())

    def frames(self, video: Video) -> list[FrameResult]:
        """The video's frames in order; empty ones where there is no result."""
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
