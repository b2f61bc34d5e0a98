"""Frames of cameras and network streams: the newest one, with dropped frames counted, and reconnection after a drop.

Called by :func:`mmdet.video.source.open_video`.
"""
from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace

import numpy as np
from mmengine.logging import print_log

from mmdet.errors import UserError, counted
from mmdet.paths import shown
from mmdet.video.frames import Reader, VideoFrame, is_chosen

RECONNECT = 3  # default number of attempts in a row
FIRST_PAUSE = 0.5  # seconds before the first attempt to reconnect; doubled for each further one
LONGEST_PAUSE = 8.0  # seconds
FRAMES_WAITING = 8  # frames that may wait if every frame is processed
LATENCIES = 100_000  # number of recent frames whose latency is kept
_POLL = 0.1  # seconds after which a waiting thread checks whether it should stop
_PATIENCE = 0.5  # seconds that closing waits for a read in progress, which may be blocked


class LiveReader:
    """Read a camera or a network stream and reconnect when it ends; see :class:`mmdet.video.frames.Reader`.

    Frames have a ``time`` in any case: that of the stream or, without time stamps, the time since the first frame.

    Args:
        reader: the first connection.
        connect: opens another one; raises UserError if that fails.
        text: source as given by the user, for messages.
        attempts: maximum number of attempts in a row to reconnect.
    """

    expected = None

    def __init__(self, reader: Reader, connect: Callable[[], Reader], text: str, attempts: int = RECONNECT) -> None:
        self._reader, self._connect, self._text, self._attempts = reader, connect, shown(text), attempts
        self._stopped = False
        self.fps = reader.fps
        self.reconnects = 0  # successful ones

    def stop(self) -> None:
        """End the frames; may be called from any thread and from a signal handler."""
        self._stopped = True

    def read(self, chosen: slice) -> Generator[VideoFrame, None, None]:
        """Yield the chosen frames, counted over all connections."""
        index, failed = 0, 0
        begin = arrived = last = offset = 0.0
        reader: Reader | None = self._reader
        while reader is not None:
            first, frames = True, reader.read(slice(0, None, 1))
            try:
                for frame in frames:
                    now = time.monotonic()
                    begin = begin or now
                    if first and index:
                        offset = now - begin - (frame.time or 0.0)
                        self.reconnects += 1
                        self._say(f'connected again after {now - arrived:.1f} seconds without frames')
                    seconds = now - begin if frame.time is None else frame.time + offset
                    last = max(seconds, last + 1e-3) if index else seconds
                    first, failed, arrived = False, 0, now
                    if is_chosen(index, chosen):
                        yield replace(frame, index=index, time=last)
                    index += 1
                    if self._stopped or index == chosen.stop:
                        return
            except UserError:  # of a connection without a frame that can be decoded
                if not index:
                    raise
            finally:
                frames.close()
            reader, failed = self._again(index, failed)

    def _again(self, index: int, failed: int) -> tuple[Reader | None, int]:
        """Reconnect; return the new connection, or None, and the number of attempts since the last frame."""
        if not self._attempts:
            return None, failed
        while not self._stopped and failed < self._attempts:
            failed += 1
            self._say(f'no frame after frame {index}; reconnecting (attempt {failed} of {self._attempts})')
            end = time.monotonic() + min(FIRST_PAUSE * 2 ** (failed - 1), LONGEST_PAUSE)
            while not self._stopped and (left := end - time.monotonic()) > 0:
                time.sleep(min(left, _POLL))
            if self._stopped:
                break
            try:
                return self._connect(), failed
            except UserError:
                continue
        if not self._stopped:
            self._say(f'ends after frame {index}: {counted(self._attempts, "attempt")} to reconnect failed')
        return None, failed

    def _say(self, text: str) -> None:
        print_log(f'{self._text}: {text}', logger='current', level=logging.WARNING)


@dataclass
class LiveStatistics:
    """Statistics of a live source.

    Attributes:
        received: number of chosen frames that arrived.
        dropped: number of these that were replaced by a newer one before they were processed.
        latencies: seconds from the arrival of a frame to its result, of up to ``LATENCIES`` recent frames.
    """

    received: int = 0
    dropped: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES))

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latencies in seconds, interpolated linearly; NaN if there are none."""
        return float(np.percentile(self.latencies, percent)) if self.latencies else float('nan')

    def __str__(self) -> str:
        text = f'{self.dropped} of {counted(self.received, "frame")} dropped'
        if self.latencies:
            text += f', latency p50 {1000 * self.percentile(50):.0f} ms, p99 {1000 * self.percentile(99):.0f} ms'
        return text


class LiveFrames:
    """Read a source in a thread of its own, so that it never waits for the network, and keep the newest frame.

    Args:
        reader: the source.
        chosen: frames to read; the others do not count as dropped.
        every_frame: do not drop frames: the source waits while ``FRAMES_WAITING`` frames are not yet processed.
    """

    def __init__(self, reader: LiveReader, chosen: slice, every_frame: bool = False) -> None:
        self._reader, self._chosen, self.every_frame = reader, chosen, every_frame
        self.statistics = LiveStatistics()
        self._waiting: deque[tuple[VideoFrame, float]] = deque()  # with the time of arrival
        self._dropped = 0  # since the last frame that was taken
        self._arrivals: dict[int, float] = {}  # of frames whose result is not known yet
        self._changed = threading.Condition()
        self._stopped = self._ended = False
        self._error: BaseException | None = None

    def frames(self) -> Generator[VideoFrame, None, None]:
        """Yield the newest frame each time; ``dropped`` counts the frames left out before it.

        The thread starts with the first request. Closing waits at most half a second for it: a read that is blocked
        ends at its own timeout, and closes the source then.
        """
        thread = threading.Thread(target=self._read, name='live', daemon=True)
        thread.start()
        try:
            while (frame := self._take()) is not None:
                yield frame
            if self._error is not None:
                raise self._error
        finally:
            self.stop()
            thread.join(_PATIENCE)

    def stop(self) -> None:
        """End the frames within a tenth of a second; may be called from any thread and from a signal handler."""
        self._stopped = True
        self._reader.stop()

    def delivered(self, index: int) -> None:
        """Note that the result of a frame is known."""
        if (arrival := self._arrivals.pop(index, None)) is not None:
            self.statistics.latencies.append(time.monotonic() - arrival)

    def _read(self) -> None:
        frames = self._reader.read(self._chosen)
        try:
            for frame in frames:
                with self._changed:
                    if not self.every_frame:
                        self._dropped += len(self._waiting)
                        self.statistics.dropped += len(self._waiting)
                        self._waiting.clear()
                    while len(self._waiting) >= FRAMES_WAITING and not self._stopped:
                        self._changed.wait(_POLL)
                    if self._stopped:
                        break
                    self.statistics.received += 1
                    self._waiting.append((frame, time.monotonic()))
                    self._changed.notify_all()
        except BaseException as error:
            self._error = error
        finally:
            frames.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _take(self) -> VideoFrame | None:
        """Wait for a frame; None at the end."""
        with self._changed:
            while not self._waiting and not self._ended and not self._stopped:
                self._changed.wait(_POLL)
            if self._stopped or not self._waiting:
                return None
            frame, self._arrivals[frame.index] = self._waiting.popleft()
            frame.dropped, self._dropped = self._dropped, 0
            self._changed.notify_all()
            return frame
