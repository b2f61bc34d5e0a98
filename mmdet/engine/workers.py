"""Data loader workers that only the main process stops, and that do not repeat warnings. Used by the runner."""
from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable
from typing import Any
from zlib import crc32

from mmengine.logging import MMLogger, print_log
from torch.utils.data import DataLoader

_MOST_WARNINGS = 256  # number of different warnings that are recognised when they are repeated


class WarnedOnce(logging.Filter):
    """Passes each warning once, in whichever of the processes that share the instance it occurs first.

    A library's warning would otherwise be printed by every worker, and by the workers of every epoch again.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen = multiprocessing.Array('q', _MOST_WARNINGS)  # its first value is the number of the following

    def is_new(self, text: str) -> bool:
        """Return whether no process has asked for this text before, and remember it."""
        key = crc32(text.encode())
        with self._seen.get_lock():
            seen: Any = self._seen.get_obj()
            count = seen[0]
            if key in seen[1:count + 1]:
                return False
            if count + 1 < _MOST_WARNINGS:
                seen[0], seen[count + 1] = count + 1, key
            return True

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log a record: all but repeated warnings."""
        return record.levelno != logging.WARNING or self.is_new(record.getMessage())

    def install(self) -> None:
        """Apply to all warnings of this process: those of Python and those of mmengine's logger."""
        show = warnings.showwarning

        def show_new(message: Any, category: type[Warning], *args: Any, **kwargs: Any) -> None:
            if self.is_new(f'{category.__name__}: {message}'):
                show(message, category, *args, **kwargs)

        warnings.showwarning = show_new
        MMLogger.get_current_instance().addFilter(self)


_warned_once = WarnedOnce()


class WorkerStart:
    """Initialises a worker so that it ignores SIGINT, and SIGTERM unless the main process sends it.

    Ctrl-C and a cluster's SIGTERM are sent to all processes of a job. A worker that they kill would end the main
    process before it could save. Therefore a worker exits only on request of the main process or after its end.

    Args:
        inner: the ``worker_init_fn`` of the loader, called afterwards.
    """

    def __init__(self, inner: Callable[[int], None] | None) -> None:
        self.inner, self.warned = inner, _warned_once

    def __call__(self, worker: int) -> None:
        self.warned.install()
        signal.set_wakeup_fd(-1)  # inherited from the main process, see StopSignal
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_told_by, args=(os.getppid(),), daemon=True).start()
        if self.inner is not None:
            self.inner(worker)


def check_number_of_workers(dataloader: DataLoader | dict) -> None:
    """Log one line if a config asks for more workers than this process has cores.

    It replaces PyTorch's warning of several lines, which is repeated for each loader and each epoch.
    """
    warnings.filterwarnings('ignore', 'This DataLoader will create', UserWarning)
    workers = dataloader.get('num_workers', 0) if isinstance(dataloader, dict) else dataloader.num_workers
    cores = len(os.sched_getaffinity(0))
    if workers > cores:
        print_log(f'num_workers={workers}: this process may use only {cores} CPU cores, and fewer workers may be '
                  f'faster; set num_workers={cores} of the data loader', 'current', logging.WARNING)


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
