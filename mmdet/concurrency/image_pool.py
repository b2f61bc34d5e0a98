"""Forked processes that change images in shared memory.

Used by :class:`mmdet.visualization.SequenceVisualizer`: one process paints about 400 to 700 frames per second, fewer
than a GPU tracks.
"""
from __future__ import annotations

import ctypes
import multiprocessing
import queue
import signal
import sys
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np

from mmdet.errors import UserError

from .process import SLOT_BYTES, ImageSlots

_PR_SET_PDEATHSIG = 1  # Linux: the signal that a process receives when its parent ends
_SLOTS_PER_PROCESS = 2
_state: dict[str, Any] = {}  # of a process of the pool: its function and the shared memory


class ImagePool:
    """Call a function that changes images in place in several processes.

    The processes are forked by the first :meth:`submit`; no other thread may run then, and OpenCV must not use threads.

    Args:
        change: called in a process with an image and the picklable arguments of :meth:`submit`.
        processes: number of processes.
        slot_bytes: size of the shared memory for each image; larger images are changed in the calling process.
    """

    def __init__(self, change: Callable[..., None], processes: int, slot_bytes: int = SLOT_BYTES) -> None:
        slots = _SLOTS_PER_PROCESS * processes
        self._change = change
        self._slots = ImageSlots(slots, slot_bytes)
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(slots):
            self._free.put(slot)
        self._pool = ProcessPoolExecutor(processes, multiprocessing.get_context('fork'), _begin,
                                         (change, self._slots))

    def submit(self, image: np.ndarray, *args: Any) -> Future:
        """Change a copy of an image; block while all shared memory is in use.

        Args:
            image: (H, W, 3) uint8; not changed.
            args: further arguments of the function.

        Returns:
            The future copy, whose ``result`` raises the errors of the function.
        """
        result: Future = Future()
        slot = self._free.get()
        shape = self._slots.put(slot, image)
        if shape is None:
            self._free.put(slot)
            changed = image.copy()
            self._change(changed, *args)
            result.set_result(changed)
            return result

        def finish(done: Future) -> None:
            error = done.exception()
            changed = self._slots.get(slot, shape).copy() if error is None else None
            self._free.put(slot)
            if isinstance(error, BrokenProcessPool):
                error = UserError('a process that draws the pictures was ended; is the memory full?')
            if error is None:
                result.set_result(changed)
            else:
                result.set_exception(error)

        try:
            self._pool.submit(_run, slot, shape, args).add_done_callback(finish)
        except BrokenProcessPool as error:
            done: Future = Future()
            done.set_exception(error)
            finish(done)
        return result

    def close(self) -> None:
        """Wait for all images and end the processes; further calls have no effect."""
        self._pool.shutdown()


def _begin(change: Callable[..., None], slots: ImageSlots) -> None:
    """Prepare a new process: it ends with its parent, and only then or when the pool is closed."""
    _state.update(change=change, slots=slots)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _run(slot: int, shape: tuple[int, ...], args: tuple) -> None:
    _state['change'](_state['slots'].get(slot, shape), *args)
