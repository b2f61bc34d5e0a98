"""Write MP4 files of videos: H.264, which browsers play, if PyAV or OpenCV can encode it, else MPEG-4 Part 2.

Called by :class:`~mmdet.visualization.SequenceVisualizer` and the video tools. The encoder starts with the first frame,
so a writer may be created in one process and used in a fork of it.
"""
from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from mmengine.logging import print_log

from mmdet.errors import UserError
from mmdet.paths import is_utf8, shown

from .writers import ClosingWriter, cannot_write, check_fps, make_folder

# Chosen for speed, then size: CPU time per 1280x720 frame of data/toy_textured, size per frame, PSNR, without B frames
#   OpenCV's MPEG-4            5.9 ms  41 kB  35.7 dB
#   ultrafast, crf 23          5.7 ms  35 kB  34.3 dB (without deblocking, as all of ultrafast)
#   ultrafast, crf 21          6.4 ms  49 kB  35.0 dB
#   superfast, crf 24, vlc     7.9 ms  28 kB  35.4 dB
#   superfast, crf 23          9.2 ms  28 kB  35.7 dB
#   veryfast, crf 23          14.4 ms  21 kB  35.3 dB
# B frames cost time too, and more frames are lost when the process is killed.
X264_SETTINGS = {'preset': 'superfast', 'crf': '24', 'coder': 'vlc', 'bf': '0'}
# While it is written, the file consists of fragments that can be played once they are on disk; closing converts it to
# an ordinary MP4. Without flush_packets, the end of a fragment would stay in memory until the next one.
MP4_SETTINGS = {'movflags': 'hybrid_fragmented+frag_keyframe+empty_moov', 'flush_packets': '1'}
# without it, FFmpeg would begin the audio at 0 even if its first packet is later
WITH_AUDIO = {'use_editlist': '1'}
FRAGMENT_SECONDS = 2
FRAGMENT_FRAMES = (12, 250)  # smallest number, since key frames are large; largest, since a fragment is in memory
TICKS_PER_SECOND = 10_000  # smallest resolution of the times of frames
# as in ISO/IEC 23091-2
BT709_PRIMARIES, SRGB_TRANSFER, BT601_MATRIX, VIDEO_RANGE = 1, 13, 6, 1


class Mp4Writer(ClosingWriter):
    """Write an MP4 file: H.264 if PyAV is installed or OpenCV has an encoder for it, else MPEG-4
    Part 2, with one warning.

    A file written by PyAV is readable up to the last seconds even if the process is killed.

    Args:
        path: path of the file, which is created with the first frame; its folder is created if missing.
        fps: frames per second, if frames have no times. OpenCV can write a constant frame rate only.
        audio: video file whose frames are written, at their times, and whose audio is added; None: no audio. OpenCV
            cannot write audio.

    Raises:
        UserError: the file cannot be written, or fps is not positive.
    """

    def __init__(self, path: str | os.PathLike, fps: float, audio: Path | None = None) -> None:
        check_fps(fps)
        self.path = Path(path)
        self.fps = fps
        self._audio = audio
        self._video: X264Video | cv2.VideoWriter | None = None
        self._size = (0, 0)
        make_folder(self.path.parent)

    @staticmethod
    def takes_i420() -> bool:
        """Return whether :meth:`write` takes frames that :func:`to_i420` has converted, as PyAV's encoder does."""
        return find_codec() == 'libx264'

    def write(self, frame: np.ndarray, time: float | None = None) -> None:
        """Append a frame.

        Args:
            frame: (H, W, 3) uint8 BGR; a frame of another size than the first is resized. Or, where
                :meth:`takes_i420`, the result of :func:`to_i420` for a frame of the size of the first.
            time: time in seconds, greater than that of the previous frame; the first frame is shown at 0. None: 1 / fps
                after the previous frame.
        """
        if self._video is None:
            height, width = frame.shape[:2]
            if frame.ndim == 2:
                height = height * 2 // 3
            self._size = (width + width % 2, height + height % 2)  # the encoders require even sides
            self._video = self._open()
        if frame.ndim == 3:
            width, height = self._size
            right, below = width - frame.shape[1], height - frame.shape[0]
            if {right, below} <= {0, 1}:
                frame = _extended(frame, right, below)
            else:
                frame = cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA)
        if isinstance(self._video, X264Video):
            self._video.write(frame, time)
        else:
            self._video.write(frame)

    def close(self) -> None:
        video, self._video = self._video, None
        if video is not None:
            video.release()

    def _open(self) -> X264Video | cv2.VideoWriter:
        codec = find_codec()
        if codec == 'libx264':
            return X264Video(self.path, self.fps, self._size, self._audio)
        if not is_utf8(str(self.path)):  # OpenCV crashes
            raise UserError(f'cannot write {shown(self.path)}: OpenCV takes paths in UTF-8 only; choose another '
                            'folder, or pip install av')
        video = cv2.VideoWriter(str(self.path), cv2.VideoWriter.fourcc(*codec), float(self.fps), self._size)
        if not video.isOpened():
            raise UserError(f'cannot write {self.path} ({codec}, {self.fps} fps): choose another folder or PNG')
        return video


class X264Video:
    """Counterpart of :class:`cv2.VideoWriter` that uses PyAV: H.264, 4:2:0, with a tagged colour space.

    Args:
        path: path of the file.
        fps: frames per second; written as a fraction.
        size: width and height in pixels, even.
        audio: see :class:`Mp4Writer`.

    Raises:
        UserError: the file cannot be written; also raised by :meth:`write` and :meth:`release`.
    """

    def __init__(self, path: Path, fps: float, size: tuple[int, int], audio: Path | None = None) -> None:
        import av

        from .audio import AudioCopy

        self._path = path
        self._format = f'{size[0]}x{size[1]}, {fps} fps'
        rate = frame_rate(fps)
        self._frame_ticks = max(1, math.ceil(TICKS_PER_SECOND / rate))  # whole: at a constant rate times are exact
        self._tick = 1 / (rate * self._frame_ticks)  # seconds
        self._next = 0  # ticks
        self._start: float | None = None  # time of the first frame
        self._file: IO[bytes] | None = None
        self._audio: AudioCopy | None = None
        # absolute: "camera:1.mp4" is a file here, not a protocol
        target: Any = str(path.absolute())
        if not is_utf8(target):  # PyAV takes other names only as open files
            target = self._file = self._create(path)
        options = MP4_SETTINGS if audio is None else MP4_SETTINGS | WITH_AUDIO
        self._container: Any = av.open(target, 'w', format='mp4', options=options)
        with self._checked():
            self._stream = self._container.add_stream('libx264', rate=rate, options=X264_SETTINGS)
            self._stream.codec_context.time_base = self._tick
            self._stream.width, self._stream.height = size
            self._stream.pix_fmt = 'yuv420p'
            codec = self._stream.codec_context
            codec.gop_size = int(np.clip(round(FRAGMENT_SECONDS * fps), *FRAGMENT_FRAMES))
            codec.thread_count, codec.thread_type = 0, 'FRAME'  # 0: as many as there are cores
            codec.color_primaries, codec.color_trc = BT709_PRIMARIES, SRGB_TRANSFER
            codec.colorspace, codec.color_range = BT601_MATRIX, VIDEO_RANGE
            self._audio = None if audio is None else AudioCopy.open(audio, self._container)
            self._container.start_encoding()  # opens the file and starts the threads

    def write(self, frame: np.ndarray, time: float | None = None) -> None:
        """Append a (height, width, 3) uint8 BGR frame or the result of :func:`to_i420`, see :meth:`Mp4Writer.write`."""
        import av

        if time is not None:
            self._start = time if self._start is None else self._start
            self._next = max(self._next - self._frame_ticks + 1, round((time - self._start) / self._tick))

        pixels: Any = to_i420(frame) if frame.ndim == 3 else frame
        # from_numpy_buffer does not copy the pixels, but drops rows above a multiple of four (PyAV 18.1)
        wrap = av.VideoFrame.from_ndarray if self._stream.height % 4 else av.VideoFrame.from_numpy_buffer
        picture = wrap(pixels, format='yuv420p')
        picture.pts, picture.time_base, picture.duration = self._next, self._tick, self._frame_ticks
        self._next += self._frame_ticks
        with self._checked():
            self._container.mux(self._stream.encode(picture))
            if self._audio is not None and self._start is not None:
                self._audio.write_until(float(self._next * self._tick), self._start)

    def release(self) -> None:
        """Write the frames that the encoder holds and convert the file to an ordinary MP4; no effect after an error."""
        if self._container is not None:
            with self._checked():
                self._container.mux(self._stream.encode())
                if self._audio is not None and self._start is not None:
                    self._audio.finish(float(self._next * self._tick), self._start)
                self._container.close()
            self._container = None
        if self._file is not None:
            self._file.close()

    @staticmethod
    def _create(path: Path) -> IO[bytes]:
        try:
            return path.open('wb', buffering=0)
        except OSError as error:
            raise cannot_write(path, error) from error

    @contextmanager
    def _checked(self) -> Iterator[None]:
        """Close the file after an error, so that its finished fragments are readable, and raise UserError."""
        import av

        try:
            yield
        except (av.FFmpegError, OverflowError) as error:
            container, self._container = self._container, None
            if self._audio is not None:
                self._audio.close()
            with suppress(av.FFmpegError):  # the same error again
                container.close()
            if isinstance(error, OSError):
                raise cannot_write(self._path, error) from error
            raise UserError(
                f'cannot write {self._path} (H.264, {self._format}): choose another size or fps, or PNG') from error


def to_i420(frame: np.ndarray) -> np.ndarray:
    """Convert (H, W, 3) uint8 BGR to the encoder's pixels: BT.601 in video range, 4:2:0.

    Returns:
        (h·3/2, w) uint8: the planes Y, U and V; h and w are H and W, rounded up to even numbers.
    """
    height, width = frame.shape[:2]
    return cv2.cvtColor(_extended(frame, width % 2, height % 2), cv2.COLOR_BGR2YUV_I420)


def _extended(frame: np.ndarray, right: int, below: int) -> np.ndarray:
    """Repeat the last column and the last row of a frame by these numbers."""
    return cv2.copyMakeBorder(frame, 0, below, 0, right, cv2.BORDER_REPLICATE) if right or below else frame


def frame_rate(fps: float) -> Fraction:
    """Approximate by a simple fraction: 29.97 → 2997/100, 23.976024 → 24000/1001, 0.3333 → 1/3."""
    if fps < 1:
        return 1 / Fraction(1 / fps).limit_denominator(1001)
    return Fraction(fps).limit_denominator(1001)


@cache
def find_codec() -> str:
    """Return 'libx264' if PyAV has it, 'avc1' if OpenCV can encode H.264, else 'mp4v' with a warning."""
    if pyav_has_x264():
        return 'libx264'
    if opencv_has_h264():
        return 'avc1'
    print_log(
        'No H.264 encoder: MP4 files hold MPEG-4 Part 2, which players show, most browsers not; to get one: '
        'pip install -U av', logger='current', level=logging.WARNING)
    return 'mp4v'


def pyav_has_x264() -> bool:
    try:
        import av
        av.Codec('libx264', 'w')
    except (ImportError, ValueError):
        return False
    return av.library_versions['libavformat'] >= (62,)  # FFmpeg 8, the first version that supports MP4_SETTINGS


def opencv_has_h264() -> bool:
    # tried in a child process, since FFmpeg's C code prints errors if the encoder is missing
    trial = (
        'import cv2, sys\n'
        'video = cv2.VideoWriter(sys.argv[1], cv2.VideoWriter_fourcc(*"avc1"), 10.0, (64, 64))\n'
        'sys.exit(0 if video.isOpened() else 1)\n')
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, '-c', trial, os.path.join(folder, 'trial.mp4')]
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
