"""Frames from whatever a user calls a video: a file, an address, a folder, a glob, a camera, an iterable of arrays.

Called by :class:`mmdet.apis.VideoInferencer`. Nothing is read before the first frame is asked for, except what tells
that the source is there; memory holds one frame.
"""
from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from mmengine.logging import print_log

from mmdet.datasets.transforms.loading import read_frame
from mmdet.errors import UserError
from mmdet.paths import IMAGE_ENDINGS, natural_key, visible_files
from mmdet.video.arrays import bgr_image, check_video_array
from mmdet.video.video_options import MOST_FPS, check_video_options

DEFAULT_FPS = 10.0  # of sources that have no clock of their own


@dataclass
class VideoFrame:
    """One frame.

    Attributes:
        image: (H, W, 3) uint8 BGR; the frame's own memory.
        index: its number in the source, from 0, whatever ``start`` and ``stride`` are.
        path: its image file, where it has one.
    """

    image: np.ndarray
    index: int
    path: str | None = None


class VideoSource:
    """An iterator over the chosen frames; made by :func:`open_video`.

    Attributes:
        name: for files named after the video: letters, digits, ``.-_``.
        fps: frames a second of what the iterator gives: the source's own, divided by the stride.
        path: the file, or the folder of the images; None where there is none.
        length: frames that are to come; None where only the end will tell. Of video files it is what their header says.
    """

    def __init__(self, name: str, frames: Iterator[VideoFrame], fps: float, length: int | None,
                 path: Path | None = None) -> None:
        self.name = re.sub(r'[^\w.-]+', '_', name).strip('._')[:100] or 'video'
        self.fps = fps
        self.length = length
        self.path = path
        self._frames = self._checked(frames)

    def __iter__(self) -> VideoSource:
        return self

    def __next__(self) -> VideoFrame:
        return next(self._frames)

    def close(self) -> None:
        """Lets the file or camera go."""
        self._frames.close()

    def _checked(self, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        """Raises UserError where a frame has another size than the first, or where there is none."""
        size = None
        try:
            for frame in frames:
                size = size or frame.image.shape[:2]
                if frame.image.shape[:2] != size:
                    height, width = frame.image.shape[:2]
                    raise UserError(f'{frame.path or self.name}: frame {frame.index} has {width}x{height} pixels, '
                                    f'those before {size[1]}x{size[0]}; give frames of one size')
                yield frame
        finally:
            frames.close()
        if size is None:
            raise UserError(f'{self.name}: no frame to read; choose an earlier --start, or check the video')


def open_video(video: str | os.PathLike | int | Iterable[np.ndarray], start: int = 0, end: int | None = None,
               stride: int = 1) -> VideoSource:
    """Finds out what the video is.

    Args:
        video: a video file or address (``rtsp://...``), a folder of images, a glob of images (``'frames/*.png'``), an
            image, a camera's number (as int or text), or an iterable of (H, W, 3) uint8 BGR or (H, W) uint8 arrays or
            tensors, such as a list or an array (T, H, W, 3). One image by itself is not a video: give ``[image]``.
            Images are taken in the order of the numbers in their names: frame9 before frame10.
        start: first frame, from 0.
        end: the frame before which to stop; None: the last one counts, too.
        stride: every how manieth frame is taken.

    Raises:
        UserError: there is no such thing, or it cannot be opened, or holds no frame.
    """
    check_video_options(start=start, end=end, stride=stride)
    frames = slice(start, end, stride)
    if isinstance(video, (int, np.integer)) and not isinstance(video, bool):
        video = int(video)
        return _capture(video, f'camera {video}', frames)
    if not isinstance(video, (str, os.PathLike)):
        check_video_array(video)
        return _arrays(video, frames)
    text = os.fspath(video)
    path = Path(text).expanduser()
    if path.is_dir():
        return _images(visible_files(path, IMAGE_ENDINGS), path.resolve().name, text, frames)
    if path.is_file():
        if path.suffix.lower() in IMAGE_ENDINGS:
            return _images([path], path.stem, text, frames)
        return _capture(str(path), text, frames, path.stem)
    if text.isdecimal():
        return _capture(int(text), f'camera {text}', frames)
    if '://' in text:
        return _capture(text, text, frames, text.split('://', 1)[1])
    if glob.has_magic(text):
        found = [Path(match) for match in glob.glob(str(path)) if Path(match).is_file()]
        return _images(found, path.parent.resolve().name, text, frames)
    raise UserError(f'{text}: no such video; give a video file, a folder or glob of images, or the number of a camera')


def _number_of(frames: slice, available: int) -> int:
    return len(range(*frames.indices(available)))


def _images(paths: list[Path], name: str, text: str, frames: slice) -> VideoSource:
    if not paths:
        raise UserError(f'{text}: no images there; those with the endings {" ".join(IMAGE_ENDINGS)} count')
    paths.sort(key=lambda path: natural_key(path.name))

    def read() -> Iterator[VideoFrame]:
        for index in range(*frames.indices(len(paths))):
            yield VideoFrame(read_frame(str(paths[index])), index, str(paths[index]))

    return VideoSource(name, read(), DEFAULT_FPS / frames.step, _number_of(frames, len(paths)), paths[0].parent)


def _arrays(arrays: Iterable[np.ndarray], frames: slice) -> VideoSource:
    def read() -> Iterator[VideoFrame]:
        for index, array in islice(enumerate(arrays), frames.start, frames.stop, frames.step):
            yield VideoFrame(bgr_image(array, index), index)

    length = _number_of(frames, len(arrays)) if hasattr(arrays, '__len__') else None
    return VideoSource('video', read(), DEFAULT_FPS / frames.step, length)


def _capture(source: str | int, text: str, frames: slice, name: str | None = None) -> VideoSource:
    """What OpenCV opens: files, addresses, cameras."""
    # what OpenCV and FFmpeg print says less than our own line
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        capture = cv2.VideoCapture(source)
    finally:
        cv2.utils.logging.setLogLevel(before)
    if not capture.isOpened():
        remedy = 'check its number and that no other program uses it' if isinstance(source, int) else (
            'is it a video? ffmpeg -i FILE says what it holds')
        raise UserError(f'{text}: cannot be opened; {remedy}')
    fps = capture.get(cv2.CAP_PROP_FPS)
    fps = fps if 0 < fps <= MOST_FPS else DEFAULT_FPS
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))  # 0 or less where there is no end

    def read() -> Iterator[VideoFrame]:
        index = 0
        try:
            while (frames.stop is None or index < frames.stop) and capture.grab():
                # skipping decodes as well: seeking in compressed files misses the frame by a few
                if index >= frames.start and (index - frames.start) % frames.step == 0:
                    found, image = capture.retrieve()
                    if not found:
                        break
                    yield VideoFrame(image, index)
                index += 1
            wanted = total if frames.stop is None else min(total, frames.stop)
            if 0 < index < wanted:
                print_log(f'{text}: ends after frame {index} of {wanted}; it is cut off or damaged there',
                          logger='current', level=logging.WARNING)
        finally:
            capture.release()

    length = _number_of(frames, total) if total > 0 else None
    return VideoSource(name or text, read(), fps / frames.step, length, Path(source) if name else None)
