"""Frames of a video, their selection and their times; shared by the readers of files, images and arrays."""
from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

DEFAULT_FPS = 10.0  # frames per second of sources without time stamps
STALL = 3.0  # seconds without data after which a network stream has ended
RESTART = 1.0  # seconds; time stamps that decrease by more have restarted, as in concatenated recordings


@dataclass
class VideoFrame:
    """One frame.

    Attributes:
        image: (H, W, 3) uint8 BGR, in memory of its own.
        index: 0-based number among all frames of the source, regardless of ``start`` and ``stride``.
        path: path of the image file, if there is one for each frame.
        time: seconds since the start of the source, strictly increasing; None if the source has no time stamps.
        dropped: number of frames of a live source left out between the previous frame and this one; None: not live.
    """

    image: np.ndarray
    index: int
    path: str | None = None
    time: float | None = None
    dropped: int | None = None


class Reader(Protocol):
    """Interface of the readers: the constructor opens a source, and :meth:`read` reads its frames.

    Attributes:
        fps: frames per second of the source.
        expected: number of frames in the source, possibly an estimate; None: unknown.
        faults: what is missing from the frames because the source is damaged; complete after the last frame.
    """

    fps: float
    expected: int | None
    faults: list[str]

    def read(self, chosen: slice) -> Generator[VideoFrame, None, None]:
        """Yield the frames ``start, start + step, ...`` before ``stop``, then close the source."""


def is_chosen(index: int, chosen: slice) -> bool:
    """Return whether a frame is one of ``start, start + step, ...``; ``stop`` is not considered."""
    return index >= chosen.start and (index - chosen.start) % chosen.step == 0


def number_of(chosen: slice, available: int) -> int:
    """Return how many of the available frames are chosen."""
    return len(range(*chosen.indices(available)))


class Clock:
    """Convert the time stamps of a source to times that start at 0 and increase, even if stamps restart or are missing.

    Args:
        step: seconds between frames, used if a time stamp is missing.
    """

    def __init__(self, step: float) -> None:
        self.step = step
        self.last: float | None = None
        self.longest = 0.0  # seconds between two frames
        self._offset = 0.0

    def tick(self, stamp: float | None) -> float:
        """Return the time of the next frame in seconds.

        Args:
            stamp: time stamp of the source in seconds; None: missing.
        """
        if self.last is None:
            now = 0.0
            self._offset = -(stamp or 0.0)
        elif stamp is None:
            now = self.last + self.step
        else:
            now = stamp + self._offset
            if now < self.last - RESTART:
                self._offset += self.last + self.step - now
            # after damaged data, decoders may return frames in the wrong order
            now = max(stamp + self._offset, self.last + min(self.step / 10, 1e-3))
        if self.last is not None:
            self.longest = max(self.longest, now - self.last)
        self.last = now
        return now
