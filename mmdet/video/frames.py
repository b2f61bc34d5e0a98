"""One frame of a video, and which frames of a video are taken. Shared by the readers of files, images and arrays."""
from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

DEFAULT_FPS = 10.0  # of sources that have no clock of their own
RESTART = 1.0  # seconds; time stamps that go back by more start anew, as at the joints of recordings


@dataclass
class VideoFrame:
    """One frame.

    Attributes:
        image: (H, W, 3) uint8 BGR; the frame's own memory.
        index: its number among the decoded frames of the source, from 0, whatever ``start`` and ``stride`` are.
        path: its image file, where it has one.
        time: seconds since the start of the source, where it has a clock; greater in each frame.
    """

    image: np.ndarray
    index: int
    path: str | None = None
    time: float | None = None


class Reader(Protocol):
    """What opens a source, and then reads its frames.

    Attributes:
        fps: frames per second of the source.
        expected: number of frames in the source, an estimate where only decoding will tell; None: unknown.
    """

    fps: float
    expected: int | None

    def read(self, chosen: slice) -> Generator[VideoFrame, None, None]:
        """Yield the frames ``start, start + step, ...`` before ``stop``; closes the source at its end."""


def is_chosen(index: int, chosen: slice) -> bool:
    """Whether a frame is one of ``start, start + step, ...``; ``stop`` is not considered."""
    return index >= chosen.start and (index - chosen.start) % chosen.step == 0


def number_of(chosen: slice, available: int) -> int:
    """How many frames are taken of those available."""
    return len(range(*chosen.indices(available)))


class Clock:
    """Make the time stamps of a source start at 0 and increase, also where they restart or are missing.

    Args:
        step: seconds between frames, where a time stamp does not tell.
    """

    def __init__(self, step: float) -> None:
        self.step = step
        self.last: float | None = None
        self.longest = 0.0  # seconds between two frames
        self._offset = 0.0

    def tick(self, stamp: float | None) -> float:
        """The time of the next frame in seconds.

        Args:
            stamp: the source's own, in seconds; None: missing.
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
            # behind damage, decoders confuse the order of frames
            now = max(stamp + self._offset, self.last + min(self.step / 10, 1e-3))
        if self.last is not None:
            self.longest = max(self.longest, now - self.last)
        self.last = now
        return now
