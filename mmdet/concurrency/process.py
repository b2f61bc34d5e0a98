"""A consumer in a forked process. Images are passed in shared memory, everything else through a pipe.

Used by :class:`mmdet.video.frame_sink.FrameSink`: drawing in a thread would slow a fast network down by a third or
more, because Python runs one thread at a time.
"""
from __future__ import annotations

import gc
import io
import math
import mmap
import multiprocessing
import os
import pickle
import signal
import stat
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import cv2
import numpy as np

from mmdet.errors import UserError

# Images of at most this size are copied without releasing the GIL, which other threads might hold for longer than that.
_SMALL = 2 ** 20
SLOT_BYTES = 2 ** 25  # shared memory for each item, allocated on first use; larger images go through the pipe


class BackgroundProcess:
    """Call a function with each item in a separate process, in order.

    It implements :class:`mmdet.concurrency.BackgroundConsumer`. The process is forked by the constructor, so no decoder
    may be open and no thread may run at that time. It ignores SIGINT and SIGTERM, and calls ``finish`` when the
    consumer is closed and when the main process exits or is killed.

    Args:
        work: called in the process with each item: an image (or None), which is valid during the call only, and the
            other arguments of :meth:`put`.
        finish: called once at the end, also after an error; its result must be picklable.
        ahead: size of the queue; :meth:`put` blocks while it is full.
        name: name of what the process writes, for messages.
        slot_bytes: size of the shared memory for each item.
        start: called in the process before the first item, while the main process goes on; None: nothing.
    """

    def __init__(self, work: Callable[..., object], finish: Callable[[], Any], ahead: int = 8,
                 name: str = 'consumer', slot_bytes: int = SLOT_BYTES,
                 start: Callable[[], object] | None = None) -> None:
        context = multiprocessing.get_context('fork')
        self._name, self._ahead = name, ahead
        self._memory = ImageSlots(ahead, slot_bytes)
        self._failed = mmap.mmap(-1, 1)  # shared: 1 if a reply is an error; reading it costs less than polling a pipe
        self._count = 0  # of items
        self._room = ahead  # number of slots that are known to be free; they are used and freed in turn
        self._going = True
        self._result: Any = None
        items, self._items = context.Pipe(duplex=False)
        self._replies, replies = context.Pipe(duplex=False)
        self._freed, freed = context.Pipe(duplex=False)  # a byte for each slot
        threads = cv2.getNumThreads()
        cv2.setNumThreads(0)  # OpenCV's threads are not forked, but the new process would wait for them
        try:
            self._process = context.Process(
                target=_serve, name=name,
                args=(start, work, finish, self._memory, self._failed, items, replies, freed,
                      self._items, self._replies, self._freed))
            self._process.start()
        finally:
            cv2.setNumThreads(threads)
        for end in (items, replies, freed):
            end.close()

    @staticmethod
    def available() -> bool:
        """Return whether the calling thread may fork.

        Daemonic processes, such as those of a pool, may have no children. A thread beside the main thread, such as that
        of a request to a server, does not know what the others do: a lock that one of them holds at the time of the
        fork would never be released in the new process.
        """
        return (sys.platform == 'linux' and not multiprocessing.current_process().daemon
                and threading.current_thread() is threading.main_thread())

    def put(self, image: np.ndarray | None, *others: Any) -> None:
        """Add an item to the queue: an image (uint8 is fastest) and picklable objects. Block while the queue is full.

        See :class:`mmdet.concurrency.BackgroundConsumer`.
        """
        self.put_all([(image, *others)])

    def put_all(self, items: Sequence[tuple]) -> None:
        """Add items with one message for each ``ahead`` of them: each message wakes the process, and each wait for room
        takes the caller out of its work. See :class:`mmdet.concurrency.BackgroundConsumer`.
        """
        self._raise_error()
        for start in range(0, len(items), self._ahead):
            self._send(items[start:start + self._ahead])

    def _send(self, items: Sequence[tuple]) -> None:
        while self._room < len(items):
            freed = len(os.read(self._freed.fileno(), self._ahead))
            self._room += freed  # before an error is raised, after which items may still be added
            self._raise_error()
            if not freed:
                self._take_reply()  # the process was ended, which this reports
        message = []
        for image, *others in items:
            slot = self._count % self._ahead
            self._count += 1
            shape = self._memory.put(slot, image)
            message.append((slot, shape, image if shape is None else None, others))
        self._room -= len(items)
        with suppress(BrokenPipeError):  # the missing reply is reported by _take_reply
            self._items.send_bytes(dumps(message))

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
        # multiprocessing joins the process later: its work is done, and to end takes it as long as to start
        self._replies.close()
        self._freed.close()
        if error is not None:
            raise error
        return self._result

    def _raise_error(self) -> None:
        """Raise an error of the process that was not raised yet."""
        if self._failed[0]:
            self._failed[0] = 0
            self._take_reply()

    def _take_reply(self) -> None:
        """Receive one reply: the final result, or an error, which is raised."""
        try:
            kind, reply = self._replies.recv()
        except EOFError:
            self._going = False
            self._process.join()
            raise UserError(f'the process that writes the {self._name} was ended (status {self._process.exitcode}); '
                            f'is the memory full? The {self._name} end there') from None
        if kind == 'error':
            raise reply
        self._result, self._going = reply, False


def dumps(value: Any) -> bytes:
    """Return what ``pickle.loads`` reads, faster than ``pickle.dumps`` by 60 % for small arrays of numbers."""
    buffer = io.BytesIO()
    _Pickler(buffer).dump(value)
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    """Reduce arrays of numbers to their bytes."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is np.ndarray and value.dtype.kind in 'biuf':
            return _array, (value.tobytes(), value.dtype.str, value.shape)
        return NotImplemented


def _array(data: bytes, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(data, dtype).reshape(shape).copy()  # a copy can be changed


class ImageSlots:
    """Memory that forked processes share, for one image per slot; slots are allocated on first use.

    Args:
        number: number of slots.
        slot_bytes: size of a slot.
    """

    def __init__(self, number: int, slot_bytes: int) -> None:
        self.slot_bytes = slot_bytes
        self._memory = mmap.mmap(-1, number * slot_bytes)

    def put(self, slot: int, image: np.ndarray | None) -> tuple[int, ...] | None:
        """Copy an image into a slot; return its shape, or None if it does not fit or is not uint8."""
        if image is None or image.dtype != np.uint8 or image.nbytes > self.slot_bytes:
            return None
        if image.nbytes <= _SMALL and image.flags.c_contiguous:
            start = slot * self.slot_bytes
            self._memory[start:start + image.nbytes] = image.reshape(-1).data
        else:
            np.copyto(self.get(slot, image.shape), image)
        return image.shape

    def get(self, slot: int, shape: tuple[int, ...]) -> np.ndarray:
        """Return the image in a slot, without copying it."""
        return np.frombuffer(self._memory, np.uint8, math.prod(shape), slot * self.slot_bytes).reshape(shape)


def _serve(start: Callable[[], object] | None, work: Callable[..., object], finish: Callable[[], Any],
           memory: ImageSlots, failed: mmap.mmap, items: Connection, replies: Connection, freed: Connection,
           *theirs: Connection) -> None:
    """Run the process: call ``work`` for each item until the main process sends None or exits, then ``finish``.

    Args:
        start, work, finish: see :class:`BackgroundProcess`.
        memory: shared memory of the images.
        failed: shared byte that becomes 1 after an error of ``start`` or ``work`` was sent.
        items: yields lists of (slot, shape, image unless it is in the slot, others), and None at the end.
        replies: receives ('error', exception), and at the end ('result', result of ``finish``).
        freed: receives a byte for each item of a list after the last one, when their slots can be used again.
        theirs: the main process's ends of the pipes. They are closed here, so that they close when that process exits.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    gc.freeze()  # objects of the main process, such as tensors on a GPU, must not be collected here
    for end in theirs:
        end.close()
    _close_sockets()

    def tell(kind: str, reply: Any) -> None:
        with suppress(BrokenPipeError):  # the main process has exited, but the work must be finished
            replies.send((kind, reply))

    def tell_error(error: Exception) -> None:
        if not isinstance(error, UserError):  # the text of a UserError needs no traceback
            error.add_note(traceback.format_exc())
        try:
            tell('error', error)
        except Exception:  # the error cannot be pickled
            tell('error', RuntimeError(traceback.format_exc()))

    def attempt(function: Callable[..., object], *args: Any) -> bool:
        try:
            function(*args)
        except Exception as error:
            tell_error(error)
            failed[0] = 1
            return False
        return True

    result = None
    going = start is None or attempt(start)
    while message := _next(items):
        for slot, shape, image, others in message:
            if going:  # after an error the remaining items are dropped
                going = attempt(work, image if shape is None else memory.get(slot, shape), *others)
        with suppress(BrokenPipeError):
            os.write(freed.fileno(), bytes(len(message)))
    try:
        result = finish()
    except Exception as error:
        tell_error(error)
    tell('result', result)


def _close_sockets() -> None:
    """Close the sockets of the main process, except standard streams: its connections then end when it closes them.

    The numbers of the sockets remain in use, since objects that were forked may still refer to them.
    """
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number in map(int, os.listdir('/proc/self/fd')):
        with suppress(OSError):  # the folder itself was open
            if number > 2 and stat.S_ISSOCK(os.fstat(number).st_mode):
                os.dup2(nothing, number, inheritable=False)
    os.close(nothing)


def _next(items: Connection) -> list[tuple] | None:
    """Return the next items; None at the end."""
    try:
        return items.recv()
    except (EOFError, OSError):  # OSError: the main process exited while it sent a message
        return None
