"""Data loader workers that only the main process stops. Used by the runner."""
from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from torch.utils.data import DataLoader


class WorkerStart:
    """Initialise a worker so that it ignores signals.

    Ctrl-C and a cluster's SIGTERM go to all processes of a job; a worker that died of one would end the main process
    before it could save. So a worker ends only when the main process tells it to, or is gone.

    Args:
        inner: the loader's own ``worker_init_fn``.
    """

    def __init__(self, inner: Callable[[int], None] | None) -> None:
        self.inner = inner

    def __call__(self, worker: int) -> None:
        signal.set_wakeup_fd(-1)  # the main process's, see StopSignal
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_told_by, args=(os.getppid(),), daemon=True).start()
        if self.inner is not None:
            self.inner(worker)


def stop_workers(loader: DataLoader | None) -> None:
    """Stop a loader's persistent workers.

    Otherwise PyTorch waits five seconds for each at the end of the process: it does not tell them to end.
    """
    iterator: Any = getattr(loader, '_iterator', None)
    if loader is not None and iterator is not None:
        loader._iterator = None
        stop_pass(iterator)


def stop_pass(iterator: Any) -> None:
    """Stop the workers of one pass over a loader, ``iter(loader)``, that was interrupted.

    Otherwise they live as long as the error that ended it, and PyTorch then waits five seconds for each.
    """
    if hasattr(iterator, '_shutdown_workers'):
        iterator._shutdown_workers()


def _end_when_told_by(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
