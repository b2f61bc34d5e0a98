"""Data loader workers that only the main process stops. Used by the runner."""
from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from torch.utils.data import DataLoader


class WorkerStart:
    """Initialises a worker so that it ignores SIGINT, and SIGTERM unless the main process sends it.

    Ctrl-C and a cluster's SIGTERM are sent to all processes of a job. A worker that they kill would end the main
    process before it could save. Therefore a worker exits only on request of the main process or after its end.

    Args:
        inner: the ``worker_init_fn`` of the loader, called afterwards.
    """

    def __init__(self, inner: Callable[[int], None] | None) -> None:
        self.inner = inner

    def __call__(self, worker: int) -> None:
        signal.set_wakeup_fd(-1)  # inherited from the main process, see StopSignal
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_told_by, args=(os.getppid(),), daemon=True).start()
        if self.inner is not None:
            self.inner(worker)


def stop_workers(loader: DataLoader | None) -> None:
    """Stop a loader's persistent workers.

    Otherwise PyTorch waits five seconds for each at the end of the process, because it does not ask them to exit.
    """
    iterator: Any = getattr(loader, '_iterator', None)
    if loader is not None and iterator is not None:
        loader._iterator = None
        stop_pass(iterator)


def stop_pass(iterator: Any) -> None:
    """Stop the workers of an interrupted pass over a loader, ``iter(loader)``.

    Otherwise they run as long as the exception that interrupted it exists; then PyTorch waits five seconds for each.
    """
    if hasattr(iterator, '_shutdown_workers'):
        iterator._shutdown_workers()


def _end_when_told_by(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
