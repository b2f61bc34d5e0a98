"""A request to stop (Ctrl-C, SIGTERM of a cluster) that waits until the work in hand is saved.

Used by the hook that saves training and by the test loop.
"""
from __future__ import annotations

import signal
import time
from types import FrameType

from mmdet.errors import EXIT_PREEMPTED

_PATIENCE = 2.0  # seconds; a second Ctrl-C after that ends at once


class StopSignal:
    """While entered, SIGINT and SIGTERM are noted instead of ending the process.

    Attributes:
        received: the signal's number, 0 before one came.
    """

    def __init__(self) -> None:
        self.received = 0
        self._time = 0.0
        self._previous: dict = {}

    def __enter__(self) -> StopSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.received and number == signal.SIGINT and now - self._time > _PATIENCE:
            raise KeyboardInterrupt
        self._time = now if not self.received else self._time
        self.received = self.received or number

    @property
    def exit_status(self) -> int:
        """75 after SIGTERM, 130 after Ctrl-C."""
        return EXIT_PREEMPTED if self.received == signal.SIGTERM else 128 + self.received
