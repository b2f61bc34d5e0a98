"""Deferred handling of Ctrl-C and of a cluster's SIGTERM, so that the current work can be saved before exiting.

Used by the hook that saves training, by the test loop and by tools/video_demo.py.
"""
from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from mmdet.errors import EXIT_PREEMPTED

_PATIENCE = 2.0  # seconds after which a second Ctrl-C ends the process immediately
# seconds, less than the 30 after which torch's launcher kills the processes
_STUCK = 20.0


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the process with status 75 where there is nothing to save, such as before the first iteration.

    Only for a single process: of several, one that waits for another would not see the signal.
    """
    former = signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_PREEMPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


class StopSignal:
    """Context manager that records SIGINT and SIGTERM instead of ending the process.

    If another process of the job has died, this process may wait for its data indefinitely and never read the record.
    Therefore, with a limit, a thread ends the process unless :attr:`received` is read in time.

    Attributes:
        then: called by the signal handler, for example to end a wait of the main thread; must not use locks.

    Args:
        stuck_after: maximum time in seconds between two reads of :attr:`received` after a signal; None: no limit.
    """

    def __init__(self, stuck_after: float | None = None) -> None:
        self.stuck_after = stuck_after
        self.then: Callable[[], object] | None = None
        self._received = 0
        self._looked = False
        self._time = 0.0
        self._previous: dict = {}
        self._pipe: tuple[int, int] | None = None

    @classmethod
    def of_job(cls, processes: int) -> StopSignal:
        """Return an instance for a job of ``processes`` processes; with several, it has a time limit."""
        return cls(_STUCK if processes > 1 else None)

    def __enter__(self) -> StopSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        if self.stuck_after is not None:
            # Python's signal handlers run in the main thread, which may be blocked; the pipe is written immediately
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
        """Remove the time limit, for saving and exiting."""
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
        if self.then is not None:
            self.then()

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
        """The number of the received signal, or 0."""
        self._looked = True
        return self._received

    @received.setter
    def received(self, number: int) -> None:
        self._received = number

    @property
    def exit_status(self) -> int:
        """The exit status: 75 after SIGTERM, 130 after Ctrl-C."""
        return EXIT_PREEMPTED if self._received == signal.SIGTERM else 128 + self._received
