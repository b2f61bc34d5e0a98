"""Read cameras and, if PyAV is not installed, video files and network streams with OpenCV.

Called by :func:`mmdet.video.source.open_video`.
"""
from __future__ import annotations

import logging
import os
from collections.abc import Generator

import cv2
from mmengine.logging import print_log

from mmdet.errors import UserError
from mmdet.paths import is_utf8, shown
from mmdet.video.frames import DEFAULT_FPS, STALL, Clock, VideoFrame, is_chosen
from mmdet.video.video_options import MOST_FPS


class OpenCVReader:
    """Decode a video with OpenCV, see :class:`mmdet.video.frames.Reader`.

    Args:
        source: path, address, or number of a camera.
        text: source as given by the user, for messages.
        live: a network stream, which has ended if no data arrives for ``STALL`` seconds.

    Attributes:
        finite: whether the source is read like a file: it states its number of frames.

    Raises:
        UserError: the source cannot be opened.
    """

    def __init__(self, source: str | int, text: str, live: bool = False) -> None:
        self._text = shown(text)
        if isinstance(source, str) and not is_utf8(source):  # OpenCV crashes
            raise UserError(f'{self._text}: OpenCV takes paths in UTF-8 only; rename the file, or pip install av')
        # suppress the messages of OpenCV and FFmpeg, which are less clear than the error below
        os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
        before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            if live:
                limit = [cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(1000 * STALL)]
                self._capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, limit)
            else:
                self._capture = cv2.VideoCapture(source)
        finally:
            cv2.utils.logging.setLogLevel(before)
        if not self._capture.isOpened():
            if isinstance(source, int):
                remedy = 'check its number and that no other program uses it'
            elif '://' in source:
                remedy = 'check the address and the network'
            else:
                remedy = 'is it a video? ffmpeg -i FILE says what it holds'
            raise UserError(f'{self._text}: cannot be opened; {remedy}')
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= MOST_FPS else DEFAULT_FPS
        total = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))  # an estimate; 0 or less for endless streams
        self.expected: int | None = total if total > 0 else None
        self.finite = self.expected is not None
        self._timed = not isinstance(source, int)
        self.faults: list[str] = []

    def read(self, chosen: slice) -> Generator[VideoFrame, None, None]:
        """Yield the chosen frames. Other frames are decoded, too, since seeking in compressed files is not exact."""
        index = 0
        clock = Clock(1 / self.fps)
        try:
            while (chosen.stop is None or index < chosen.stop) and self._capture.grab():
                time = clock.tick(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000) if self._timed else None
                if is_chosen(index, chosen):
                    found, image = self._capture.retrieve()
                    if not found:
                        break
                    yield VideoFrame(image, index, time=time)
                index += 1
            self._check_end(index, chosen, clock)
        finally:
            self._capture.release()

    def _check_end(self, index: int, chosen: slice, clock: Clock) -> None:
        """Warn if frames seem to be missing: OpenCV stops at the first damaged frame."""
        if self.expected is None or not index or (chosen.stop is not None and index >= chosen.stop):
            return
        missing = self.expected / self.fps - (clock.last or 0)
        if index < self.expected and missing > max(2 / self.fps, clock.longest, 0.1):
            self.faults.append(f'ends after frame {index} of about {self.expected}; it is cut off or damaged there, '
                               'and the frames after it are lost without PyAV: pip install av')
            print_log(f'{self._text}: {self.faults[0]}', logger='current', level=logging.WARNING)
