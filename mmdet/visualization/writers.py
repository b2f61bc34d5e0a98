"""Interface of the frame writers, and the writer of PNG frames; the others are in :mod:`gif` and :mod:`mp4`.

Called by :class:`~mmdet.visualization.SequenceVisualizer` and the video tools. All writers accept BGR frames in order,
keep a bounded number of them in memory, and leave a readable file when closed after any number of frames.
"""
from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, Self

import cv2
import numpy as np

from mmdet.errors import UserError

# half the time of OpenCV's default, with files 15 % larger; the level must come first, since it resets the strategy
PNG_SETTINGS = (
    cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE,
    cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB,
)


class FrameWriter(Protocol):
    """Interface of :class:`PngWriter`, :class:`GifWriter` and :class:`Mp4Writer`."""

    def write(self, frame: np.ndarray) -> None:
        """Append a (H, W, 3) uint8 BGR frame. A frame of another size than the first is resized, except by PNG."""

    def close(self) -> None:
        """Finish the file; further calls have no effect."""


class ClosingWriter:
    """Base class of the writers: a context manager that closes the file even after an error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish the file; further calls have no effect."""


class PngWriter(ClosingWriter):
    """Write ``<folder>/00000.png``, ``00001.png``, ...; each appears complete or not at all.

    Args:
        folder: output folder, created if missing.
        threads: number of threads that encode frames; with 0, :meth:`write` encodes them itself. With threads, a frame
            must not be changed after the call, and its errors are raised by a later call.

    Raises:
        UserError: the folder cannot be created or written to.
    """

    def __init__(self, folder: str | os.PathLike, threads: int = 0) -> None:
        self.folder = Path(folder)
        self._next = 0
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix='png') if threads else None
        self._pending: deque[Future] = deque()
        make_folder(self.folder)

    def write(self, frame: np.ndarray, index: int | None = None) -> None:
        """Write a frame; ``index`` is the number in the file name, by default that of the last frame plus 1."""
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
        except RuntimeError:  # the interpreter shuts down, and pools accept no more work
            _write_png(path, frame)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            pending, self._pending = self._pending, deque()
            for future in pending:
                future.result()


def _write_png(path: Path, frame: np.ndarray) -> None:
    _, data = cv2.imencode('.png', frame, PNG_SETTINGS)
    write_picture(path, data.tobytes())


def write_picture(path: Path, data: bytes) -> None:
    """Write an encoded picture, which appears complete or not at all; raise UserError if that fails."""
    part = path.with_suffix('.part')
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def make_folder(folder: Path) -> None:
    """Create a folder for pictures; raise a UserError that names it if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error


def cannot_write(path: Path, error: OSError) -> UserError:
    return UserError(f'cannot write {path} ({error.strerror}): choose another folder for the pictures')


def check_fps(fps: float) -> None:
    if not 0 < fps < float('inf'):
        raise UserError(f'fps {fps} of the pictures is not a positive number: choose for example 10')
