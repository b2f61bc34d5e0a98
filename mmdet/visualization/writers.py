"""Where pictures go: PNG frames and MP4; :mod:`gif` holds the third writer.

Called by :class:`~mmdet.visualization.SequenceVisualizer` and the video tools. All writers take BGR frames in order,
hold a bounded number of them, and leave a readable file when closed, however many frames came.
"""
from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from mmengine.logging import print_log

from mmdet.errors import UserError

# half the time of OpenCV's default for files 15 % larger; the level has to come first, for it resets the strategy
PNG_SETTINGS = (
    cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE,
    cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB,
)


class FrameWriter(Protocol):
    """What :class:`PngWriter`, :class:`GifWriter` and :class:`Mp4Writer` have in common."""

    def write(self, frame: np.ndarray) -> None:
        """Append a (H, W, 3) uint8 BGR frame. A frame of another size than the first is resized, except by PNG."""

    def close(self) -> None:
        """Finish the file; more calls do nothing."""


class ClosingWriter:
    """Base of the writers: a context manager that closes, also when the block failed."""

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Finish the file; more calls do nothing."""


class ThreadedWriter(ClosingWriter):
    """Lets another writer work in a thread of its own.

    Args:
        writer: from now on used by the thread alone. Frames must not be changed after they were handed over, and its
            errors show in a later call.
        ahead: frames that wait for it; :meth:`write` waits when there are more.
    """

    def __init__(self, writer: FrameWriter, ahead: int = 8) -> None:
        self.writer = writer
        self._ahead = threading.Semaphore(ahead)
        # one worker: frames stay in order
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(1, thread_name_prefix='writer')
        self._error: Exception | None = None

    def write(self, frame: np.ndarray) -> None:
        self._raise_error()
        self._ahead.acquire()
        try:
            self._pool.submit(self._write, frame)
        except RuntimeError:  # the interpreter is ending: pools take nothing more
            self._pool.shutdown()
            self._write(frame)

    def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()
            self.writer.close()
            self._raise_error()

    def _write(self, frame: np.ndarray) -> None:
        """After an error frames are dropped, so that nobody waits."""
        try:
            if self._error is None:
                self.writer.write(frame)
        except Exception as error:
            self._error = error
        finally:
            self._ahead.release()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error


class PngWriter(ClosingWriter):
    """Writes ``<folder>/00000.png``, ``00001.png``, ...; each appears complete or not at all.

    Args:
        folder: made if missing.
        threads: how many frames are encoded at a time beside the caller's work; with 0 :meth:`write` does it itself.
            Frames must then not be changed after they were handed over, and an error shows in a later call.

    Raises:
        UserError: the folder cannot be made or written to.
    """

    def __init__(self, folder: str | os.PathLike, threads: int = 0) -> None:
        self.folder = Path(folder)
        self._next = 0
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix='png') if threads else None
        self._pending: deque[Future] = deque()
        make_folder(self.folder)

    def write(self, frame: np.ndarray, index: int | None = None) -> None:
        """Write a frame; ``index`` names the file, by default one more than the last."""
        index = self._next if index is None else index
        self._next = index + 1
        path = self.folder / f'{index:05d}.png'
        if self._pool is None:
            _write_png(path, frame)
            return
        if len(self._pending) >= 2 * self._threads:
            self._pending.popleft().result()
        try:
            self._pending.append(self._pool.submit(_write_png, path, frame))
        except RuntimeError:  # the interpreter is ending: pools take nothing more
            _write_png(path, frame)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            pending, self._pending = self._pending, deque()
            for future in pending:
                future.result()


def _write_png(path: Path, frame: np.ndarray) -> None:
    _, data = cv2.imencode('.png', frame, PNG_SETTINGS)
    part = path.with_suffix('.part')
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


class Mp4Writer(ClosingWriter):
    """Writes an MP4 file: H.264 where OpenCV has an encoder for it, else MPEG-4 Part 2, said once.

    Args:
        path: the file; its folder is made if missing. It appears with the first frame.
        fps: frames a second.

    Raises:
        UserError: the file cannot be written, or fps is not positive.
    """

    def __init__(self, path: str | os.PathLike, fps: float) -> None:
        check_fps(fps)
        self.path = Path(path)
        self.fps = fps
        self._video: cv2.VideoWriter | None = None
        self._size = (0, 0)
        make_folder(self.path.parent)

    def write(self, frame: np.ndarray) -> None:
        if self._video is None:
            height, width = frame.shape[:2]
            self._size = (width + width % 2, height + height % 2)  # the encoders take even sides only
            codec = _mp4_codec()
            self._video = cv2.VideoWriter(str(self.path), cv2.VideoWriter_fourcc(*codec), float(self.fps), self._size)
            if not self._video.isOpened():
                raise UserError(f'cannot write {self.path} ({codec}, {self.fps} fps): choose another folder or PNG')
        width, height = self._size
        if frame.shape[1] in (width, width - 1) and frame.shape[0] in (height, height - 1):
            frame = cv2.copyMakeBorder(
                frame, 0, height - frame.shape[0], 0, width - frame.shape[1], cv2.BORDER_REPLICATE)
        else:
            frame = cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA)
        self._video.write(frame)

    def close(self) -> None:
        if self._video is not None:
            self._video.release()
            self._video = None


def make_folder(folder: Path) -> None:
    """Make a folder for pictures, or raise a UserError that names it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error


def cannot_write(path: Path, error: OSError) -> UserError:
    return UserError(f'cannot write {path} ({error.strerror}): choose another folder for the pictures')


def check_fps(fps: float) -> None:
    if not 0 < fps < float('inf'):
        raise UserError(f'fps {fps} of the pictures is not a positive number: choose for example 10')


@cache
def _mp4_codec() -> str:
    """'avc1' if this machine's OpenCV can encode H.264, else 'mp4v', which is then said."""
    # Tried in a child process: a missing encoder makes FFmpeg's C code print errors that nobody can act on.
    trial = (
        'import cv2, sys\n'
        'video = cv2.VideoWriter(sys.argv[1], cv2.VideoWriter_fourcc(*"avc1"), 10.0, (64, 64))\n'
        'sys.exit(0 if video.isOpened() else 1)\n')
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, '-c', trial, os.path.join(folder, 'trial.mp4')]
        found = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    if not found:
        print_log(
            'This OpenCV has no H.264 encoder: MP4 files hold MPEG-4 Part 2, which players show, most browsers not.',
            logger='current', level=logging.WARNING)
    return 'avc1' if found else 'mp4v'
