"""Data loader workers that leave stopping to the main process. Used by the runner."""
from __future__ import annotations

import signal
from collections.abc import Callable


class WorkerStart:
    """Runs first in every worker.

    Ctrl-C and a cluster's SIGTERM go to all processes of a job; a worker that died of one would end the main process
    before it could save. A worker ends when the main process says so or is gone.

    Args:
        inner: the loader's own ``worker_init_fn``.
    """

    def __init__(self, inner: Callable[[int], None] | None) -> None:
        self.inner = inner

    def __call__(self, worker: int) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if self.inner is not None:
            self.inner(worker)
