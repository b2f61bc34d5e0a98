"""A consumer in a forked process. Images travel in shared memory, everything else through a pipe.

Used by :class:`mmdet.video.frame_sink.FrameSink`: drawing in a thread would cost a fast network a third of its frames
and more, because Python runs one thread at a time.
"""
from __future__ import annotations

import gc
import math
import mmap
import multiprocessing
import pickle
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import cv2
import numpy as np

from mmdet.errors import UserError

SLOT_BYTES = 2 ** 25  # of shared memory per item; larger images go through the pipe. Only what is used takes memory


class BackgroundProcess:
    """Call a function with each item in a process of its own, in order; for the interface see
    :class:`mmdet.concurrency.BackgroundConsumer`.

    The process is forked at once: open no decoder and start no thread before. It ignores SIGINT and SIGTERM, and calls
    ``finish`` when this process closes it, ends, or is killed.

    Args:
        work: called with each item there: an image (or None) that is valid during the call, and what was given with it.
        finish: called once at the end, also after an error; its result must be picklable.
        ahead: items that wait; :meth:`put` waits when there are more.
        name: of the process.
        slot_bytes: of shared memory per item.
    """

    def __init__(self, work: Callable[..., object], finish: Callable[[], Any], ahead: int = 8,
                 name: str = 'consumer', slot_bytes: int = SLOT_BYTES) -> None:
        context = multiprocessing.get_context('fork')
        self._name = name
        self._memory = _Slots(ahead, slot_bytes)
        self._free = deque(range(ahead))
        self._going = True
        self._result: Any = None
        items, self._items = context.Pipe(duplex=False)
        self._replies, replies = context.Pipe(duplex=False)
        threads = cv2.getNumThreads()
        cv2.setNumThreads(0)  # OpenCV's threads are not forked, yet the new process would wait for them
        try:
            self._process = context.Process(
                target=_serve, name=name,
                args=(work, finish, self._memory, items, replies, self._items, self._replies))
            self._process.start()
        finally:
            cv2.setNumThreads(threads)
        items.close()
        replies.close()

    @staticmethod
    def available() -> bool:
        """Whether this platform and this process can fork one: processes of a pool may have no children."""
        return sys.platform == 'linux' and not multiprocessing.current_process().daemon

    def put(self, image: np.ndarray | None, *others: Any) -> None:
        """Hand over the next item: an image, best uint8, and picklable objects."""
        while not self._free or self._replies.poll():
            self._take_reply()
        slot = self._free.popleft()
        shape = self._memory.put(slot, image)
        message = (slot, shape, image if shape is None else None, others)
        with suppress(BrokenPipeError):  # the reply that never comes tells why
            self._items.send_bytes(pickle.dumps(message))  # send() takes twice the time

    def close(self) -> Any:
        """See :class:`mmdet.concurrency.BackgroundConsumer`."""
        with suppress(BrokenPipeError):
            self._items.send(None)
        self._items.close()
        error = None
        while self._going:
            try:
                self._take_reply()
            except Exception as raised:
                error = error or raised
        self._process.join()
        self._replies.close()
        if error is not None:
            raise error
        return self._result

    def _take_reply(self) -> None:
        """Take a slot that is free again, the result at the end, or an error, which is raised."""
        try:
            kind, reply = self._replies.recv()
        except EOFError:
            self._going = False
            self._process.join()
            raise UserError(f'the process that writes the {self._name} was ended (status {self._process.exitcode}); '
                            f'is the memory full? The {self._name} end there') from None
        if kind == 'error':
            raise reply
        if kind == 'free':
            self._free.append(reply)
        else:
            self._result, self._going = reply, False


class _Slots:
    """Shared memory for one image per slot."""

    def __init__(self, number: int, slot_bytes: int) -> None:
        self._slot_bytes = slot_bytes
        self._memory = mmap.mmap(-1, number * slot_bytes)

    def put(self, slot: int, image: np.ndarray | None) -> tuple[int, ...] | None:
        """Copy an image into its slot; returns its shape, or None where it does not fit or is not uint8."""
        if image is None or image.dtype != np.uint8 or image.nbytes > self._slot_bytes:
            return None
        np.copyto(self.get(slot, image.shape), image)
        return image.shape

    def get(self, slot: int, shape: tuple[int, ...]) -> np.ndarray:
        return np.frombuffer(self._memory, np.uint8, math.prod(shape), slot * self._slot_bytes).reshape(shape)


def _serve(work: Callable[..., object], finish: Callable[[], Any], memory: _Slots, items: Connection,
           replies: Connection, *theirs: Connection) -> None:
    """Run the process: call ``work`` until the items end or nobody is left to send more, then ``finish``.

    Args:
        work, finish: see :class:`BackgroundProcess`.
        memory: holds images.
        items: brings (slot, shape, image if it is not in the slot, others), at last None.
        replies: takes ('free', slot), ('error', exception), at last ('result', what ``finish`` returned).
        theirs: the other ends, which must close when the process that forked this one ends.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    gc.freeze()  # nothing of the other process, tensors on a GPU for example, is collected here
    for end in theirs:
        end.close()

    def tell(kind: str, reply: Any) -> None:
        with suppress(BrokenPipeError):  # nobody is left to hear it, but the work must be finished
            replies.send((kind, reply))

    def tell_error(error: Exception) -> None:
        if not isinstance(error, UserError):  # whose text is the whole message
            error.add_note(traceback.format_exc())
        try:
            tell('error', error)
        except Exception:  # it cannot be pickled
            tell('error', RuntimeError(traceback.format_exc()))

    going, result = True, None
    while message := _next(items):
        slot, shape, image, others = message
        try:
            if going:  # after an error the rest is dropped
                work(image if shape is None else memory.get(slot, shape), *others)
        except Exception as error:
            going = False
            tell_error(error)
        tell('free', slot)
    try:
        result = finish()
    except Exception as error:
        tell_error(error)
    tell('result', result)


def _next(items: Connection) -> tuple | None:
    """The next item; None when no more comes."""
    try:
        return items.recv()
    except (EOFError, OSError):  # OSError: the other process ended within a message
        return None
