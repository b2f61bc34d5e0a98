"""Forked processes that change images in shared memory.

Used by :class:`mmdet.visualization.SequenceVisualizer`: one process paints about 500 to 1,000 frames per second, fewer
than a GPU tracks. Images are given to the processes in turn, so that the thread that needs the results reads them from
the pipes itself; a :class:`concurrent.futures.ProcessPoolExecutor` needs two more threads and several times the time.
"""
from __future__ import annotations

import atexit
import ctypes
import itertools
import multiprocessing
import queue
import signal
import sys
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from mmdet.errors import UserError

from .process import SLOT_BYTES, ImageSlots, dumps

_PR_SET_PDEATHSIG = 1  # Linux: the signal that a process receives when its parent ends
_SLOTS_PER_PROCESS = 3  # images that are waiting, changed, or in use by the caller


class ImagePool:
    """Call a function that changes images in several processes. Methods must be called by one thread.

    Args:
        change: called in a process with a copy of the image, which it may change, and the picklable further arguments
            of :meth:`submit`; returns the copy or another uint8 array of at most its size.
        processes: number of processes.
        prepare: called in each process at its start, to do early what ``change`` would do first; None: nothing.
        slot_bytes: size of the shared memory for each image; larger images are changed in the calling process.
    """

    def __init__(self, change: Callable[..., np.ndarray], processes: int,
                 prepare: Callable[[], object] | None = None, slot_bytes: int = SLOT_BYTES) -> None:
        self._change, self._prepare = change, prepare
        self._slots = ImageSlots(_SLOTS_PER_PROCESS * processes, slot_bytes)
        self._processes = processes
        self._workers: list[_Worker] = []
        self._turns = itertools.cycle(range(processes))

    def start(self) -> None:
        """Fork the processes; no other thread may run, and OpenCV must not use threads. No effect if they run."""
        if not self._workers:
            atexit.register(self.close)  # the interpreter would wait for the processes
        for number in range(len(self._workers), self._processes):
            slots = range(number * _SLOTS_PER_PROCESS, (number + 1) * _SLOTS_PER_PROCESS)
            self._workers.append(_Worker(self._change, self._prepare, self._slots, slots, self._workers))

    def submit(self, image: np.ndarray, *args: Any) -> Callable[[], np.ndarray]:
        """Change a copy of an image; block while the shared memory is in use. Starts the processes if necessary.

        Another thread must drop the results, or the caller at the latest when it has as many as there are processes.

        Args:
            image: (H, W, 3) uint8; not changed.
            args: further arguments of the function.

        Returns:
            A function that waits for the changed copy and returns it, or raises the error of ``change``; any thread may
            call it. The copy is in shared memory, which is used again once no reference to the copy is left.
        """
        if image.nbytes > self._slots.slot_bytes:
            changed = self._change(image.copy(), *args)
            return lambda: changed
        self.start()
        return self._workers[next(self._turns)].submit(image, args)

    def close(self) -> None:
        """Wait for all images and let the processes end; further calls have no effect."""
        atexit.unregister(self.close)
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.end()
        for worker in workers:
            worker.finish()


class _Image:
    """An image that a process changes: the slot that holds it and, once it is known, the result."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.result: np.ndarray | Exception | None = None


class _Worker:
    """One process; images are changed, and their results received, in the order of :meth:`submit`.

    Args:
        change, prepare, memory: see :class:`ImagePool`.
        slots: the slots of this process.
        others: workers whose process was started before.
    """

    def __init__(self, change: Callable[..., np.ndarray], prepare: Callable[[], object] | None, memory: ImageSlots,
                 slots: Sequence[int], others: Sequence[_Worker]) -> None:
        context = multiprocessing.get_context('fork')
        items, self._items = context.Pipe(duplex=False)
        self._replies, replies = context.Pipe(duplex=False)
        self._memory = memory
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()  # its put may be called by a garbage collection
        for slot in slots:
            self._free.put(slot)
        self._sent: deque[_Image] = deque()  # their replies were not received yet
        self._lock = threading.Lock()  # of the receiving end
        theirs = [end for worker in (*others, self) for end in (worker._items, worker._replies)]
        self._process = context.Process(target=_serve, name='painter', daemon=True,
                                        args=(change, prepare, memory, items, replies, theirs))
        self._process.start()
        items.close()
        replies.close()

    def submit(self, image: np.ndarray, args: tuple) -> Callable[[], np.ndarray]:
        """See :class:`ImagePool`."""
        if self._free.empty():
            with self._lock:  # results that nobody waits for would keep their slots
                if self._sent:
                    self._receive()
        sent = _Image(self._free.get())
        shape = self._memory.put(sent.slot, image)
        self._sent.append(sent)  # without the lock, which a thread holds while it waits for an earlier result
        with suppress(BrokenPipeError):  # the missing reply is reported by _receive
            self._items.send_bytes(dumps((sent.slot, shape, args)))
        return lambda: self._result(sent)

    def _result(self, sent: _Image) -> np.ndarray:
        with self._lock:
            while sent.result is None:
                self._receive()
        if isinstance(sent.result, Exception):
            raise sent.result
        return sent.result

    def _receive(self) -> None:
        """Receive the reply for the image that was sent first: the shape of the result, or an error."""
        sent = self._sent.popleft()
        try:
            reply = self._replies.recv()
        except (EOFError, OSError):
            reply = UserError('a process that draws the pictures was ended; is the memory full?')
        if isinstance(reply, Exception):
            sent.result = reply
            self._free.put(sent.slot)
            return
        sent.result = self._memory.get(sent.slot, reply)
        # slices of the result, too, refer to the array that covers the slot
        weakref.finalize(sent.result.base, self._free.put, sent.slot).atexit = False

    def end(self) -> None:
        """Let the process end after the images that were sent."""
        with suppress(BrokenPipeError):
            self._items.send(None)
        self._items.close()

    def finish(self) -> None:
        """Receive the remaining replies; the process then ends, which takes a moment, and multiprocessing joins it."""
        with self._lock:
            while self._sent:
                self._receive()
        self._replies.close()


def _serve(change: Callable[..., np.ndarray], prepare: Callable[[], object] | None, memory: ImageSlots,
           items: Connection, replies: Connection, theirs: Sequence[Connection]) -> None:
    """Run a process of the pool, until None is received or its parent ends.

    Args:
        change, prepare, memory: see :class:`ImagePool`.
        items: yields (slot, shape, further arguments), and None at the end.
        replies: receives the shape of each result, or the exception.
        theirs: the parent's ends of pipes, which are closed here.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for end in theirs:
        end.close()
    if prepare is not None:
        with suppress(Exception):  # it is raised again where the first image is changed
            prepare()
    with suppress(EOFError, OSError):  # the parent was killed
        while message := items.recv():
            slot, shape, args = message
            try:
                image = memory.get(slot, shape)
                changed = change(image, *args)
                if changed is not image:
                    memory.put(slot, changed)
                replies.send(changed.shape)
            except Exception as error:
                _send_error(replies, error)


def _send_error(replies: Connection, error: Exception) -> None:
    if not isinstance(error, UserError):  # the text of a UserError needs no traceback
        error.add_note(traceback.format_exc())
    try:
        replies.send(error)
    except Exception:  # the error cannot be pickled
        replies.send(RuntimeError(traceback.format_exc()))
