"""A request to stop (Ctrl-C, SIGTERM of a cluster) that waits until the work in hand is saved.

Used by the hook that saves training and by the test loop.
"""
from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

from mmdet.errors import EXIT_PREEMPTED

_PATIENCE = 2.0  # seconds; a second Ctrl-C after that ends at once
# seconds; less than torch's launcher waits (30) before it kills, so that a job ends within them
_STUCK = 20.0


class StopSignal:
    """Record SIGINT and SIGTERM instead of ending the process, as a context manager.

    One process of several may never read the record: when another one has died, it waits for its data indefinitely. So
    with a limit, a thread ends the process unless :attr:`received` is read in time.

    Args:
        stuck_after: longest time in seconds between two reads of :attr:`received` after a signal; None: no limit.
    """

    def __init__(self, stuck_after: float | None = None) -> None:
        self.stuck_after = stuck_after
        self._received = 0
        self._looked = False
        self._time = 0.0
        self._previous: dict = {}
        self._pipe: tuple[int, int] | None = None

    @classmethod
    def of_job(cls, processes: int) -> StopSignal:
        """A signal for one of ``processes`` processes that wait for each other."""
        return cls(_STUCK if processes > 1 else None)

    def __enter__(self) -> StopSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        if self.stuck_after is not None:
            # Python's handlers wait for the main thread, which may be stuck; the byte in this pipe does not
            self._pipe = os.pipe()
            os.set_blocking(self._pipe[1], False)
            signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            threading.Thread(target=self._end_when_stuck, args=(self._pipe[0],), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
        self.no_limit()

    def no_limit(self) -> None:
        """Stop the watching thread: what follows (saving, exiting) has no time limit."""
        if self._pipe is not None:
            signal.set_wakeup_fd(-1)
            os.close(self._pipe[1])
            self._pipe = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._received and number == signal.SIGINT and now - self._time > _PATIENCE:
            raise KeyboardInterrupt
        self._time = now if not self._received else self._time
        self._received = self._received or number

    def _end_when_stuck(self, pipe: int) -> None:
        number = 0
        while number not in (signal.SIGINT, signal.SIGTERM):
            byte = os.read(pipe, 1)
            if not byte:
                os.close(pipe)
                return
            number = byte[0]
        while self._pipe is not None:
            self._looked = False
            time.sleep(self.stuck_after or 0)
            if not self._looked and self._pipe is not None:
                os._exit(128 + number)
        os.close(pipe)

    @property
    def received(self) -> int:
        """The signal's number, 0 before one came."""
        self._looked = True
        return self._received

    @received.setter
    def received(self, number: int) -> None:
        self._received = number

    @property
    def exit_status(self) -> int:
        """75 after SIGTERM, 130 after Ctrl-C."""
        return EXIT_PREEMPTED if self._received == signal.SIGTERM else 128 + self._received
