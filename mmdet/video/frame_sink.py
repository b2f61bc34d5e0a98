"""Takes results and frames to where they are drawn and written: a process of its own, so that the network goes on.

Called by :class:`mmdet.apis.VideoInferencer` and by the hook behind ``test_video.py --show``. Drawing in a thread costs
a fast network a third of its frames and more, for Python runs one thread at a time.
"""
from __future__ import annotations

import atexit
import gc
import math
import mmap
import multiprocessing
import pickle
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from typing import Any, Protocol

import cv2
import numpy as np
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserError
from mmdet.structures import DetDataSample
from mmdet.visualization.writers import ThreadedWriter

FRAMES_AHEAD = 8  # that may wait for the consumers; then the caller waits
SLOT_BYTES = 2 ** 25  # of shared memory a frame; larger ones go through a pipe. Only what is used takes memory
META_KEYS = ('video_id', 'frame_id', 'video_name', 'source_frame', 'img_path')


class FrameConsumer(Protocol):
    """What makes files of frames, such as :class:`mmdet.visualization.SequenceVisualizer`."""

    def add(self, image: np.ndarray | None, sample: DetDataSample) -> None:
        """Take the next frame.

        Args:
            image: (H, W, 3) uint8 BGR, valid during the call; None: not at hand.
            sample: with ``META_KEYS`` as far as they are known, and ``pred_track_instances`` of numpy arrays.
        """

    def close(self) -> Any:
        """Finish the files; what it returns, :meth:`FrameSink.close` returns. Must be able to be pickled."""


class FrameSink:
    """Hands frames to consumers that work in a process of their own or, not on Linux and in daemons, in a thread.

    The process is forked at once: open no decoder and start no thread before. It ignores interrupts and finishes the
    files when this process closes the sink, ends, or is killed. Memory holds ``FRAMES_AHEAD`` frames.

    Args:
        consumers: each gets every frame. They must not start threads before their first frame; not to be used by the
            caller any more.
    """

    def __init__(self, *consumers: FrameConsumer) -> None:
        # processes of a pool may have none of their own
        forks = sys.platform == 'linux' and not multiprocessing.current_process().daemon
        self._worker: _Process | _Thread | None = _Process(consumers) if forks else _Thread(consumers)
        atexit.register(self.close)

    def add(self, image: np.ndarray | None, sample: DetDataSample) -> None:
        """Hand over the next frame; waits while too many are in line.

        Args:
            image: (H, W, 3) uint8 BGR of the original size; None: ``sample.ori_img``, if it has that.
            sample: with ``pred_track_instances``.

        Raises:
            UserError, Exception: what a consumer raised since the last call. It gets no more frames.
        """
        if self._worker is None:
            raise RuntimeError('the files are closed already')
        self._worker.add(sample.get('ori_img') if image is None else image, _slim(sample))

    def close(self) -> list[Any]:
        """Finish all files; more calls do nothing. Raises what a consumer raised since the last call.

        Returns:
            What the consumers' ``close`` returned, in their order; empty if the sink was closed before.
        """
        worker, self._worker = self._worker, None
        if worker is None:
            return []
        atexit.unregister(self.close)
        return worker.close()

    def __enter__(self) -> FrameSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _slim(sample: DetDataSample) -> DetDataSample:
    """What consumers need of a sample, as arrays: tensors travel slowly between processes."""
    slim = DetDataSample(metainfo={key: sample.get(key) for key in META_KEYS if key in sample})
    if 'pred_track_instances' in sample:
        slim.pred_track_instances = InstanceData(**{
            name: value.detach().cpu().numpy() if isinstance(value, Tensor) else value
            for name, value in sample.pred_track_instances.items()})
    return slim


class _Consumers:
    """All consumers as one."""

    def __init__(self, consumers: Sequence[FrameConsumer]) -> None:
        self._consumers = consumers
        self.results: list[Any] = []  # of their ``close``

    def write(self, item: tuple[np.ndarray | None, DetDataSample]) -> None:
        for consumer in self._consumers:
            consumer.add(*item)

    def close(self) -> None:
        with ExitStack() as closing:  # closes all, also after an error; what was put there last, first
            for consumer in reversed(self._consumers):
                closing.callback(lambda consumer=consumer: self.results.append(consumer.close()))


class _Thread:
    """Consumers in a thread of this process."""

    def __init__(self, consumers: Sequence[FrameConsumer]) -> None:
        self._consumers = _Consumers(consumers)
        self._writer = ThreadedWriter(self._consumers, FRAMES_AHEAD)

    def add(self, image: np.ndarray | None, sample: DetDataSample) -> None:
        self._writer.write((image, sample))

    def close(self) -> list[Any]:
        self._writer.close()
        return self._consumers.results


class _Process:
    """Consumers in a forked process. Images go there in shared memory, everything else through a pipe."""

    def __init__(self, consumers: Sequence[FrameConsumer]) -> None:
        context = multiprocessing.get_context('fork')
        self._memory = mmap.mmap(-1, FRAMES_AHEAD * SLOT_BYTES)
        self._free = deque(range(FRAMES_AHEAD))
        self._going = True
        self._results: list[Any] = []
        frames, self._frames = context.Pipe(duplex=False)
        self._replies, replies = context.Pipe(duplex=False)
        threads = cv2.getNumThreads()
        cv2.setNumThreads(0)  # OpenCV's threads do not come along, yet the new process would wait for them
        try:
            self._process = context.Process(
                target=_serve, name='files',
                args=(consumers, self._memory, frames, replies, self._frames, self._replies))
            self._process.start()
        finally:
            cv2.setNumThreads(threads)
        frames.close()
        replies.close()

    def add(self, image: np.ndarray | None, sample: DetDataSample) -> None:
        while not self._free or self._replies.poll():
            self._take_reply()
        slot, shape = self._free.popleft(), None
        if image is not None and image.dtype == np.uint8 and image.nbytes <= SLOT_BYTES:
            shape = image.shape
            np.copyto(_image(self._memory, slot, shape), image)
            image = None
        with suppress(BrokenPipeError):  # the reply that never comes tells why
            self._frames.send_bytes(pickle.dumps((slot, shape, image, sample)))  # send() takes twice the time

    def close(self) -> list[Any]:
        with suppress(BrokenPipeError):
            self._frames.send(None)
        self._frames.close()
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
        return self._results

    def _take_reply(self) -> None:
        """A slot that is free again, the results at the end, or an error, which is raised."""
        try:
            reply = self._replies.recv()
        except EOFError:
            self._going = False
            self._process.join()
            raise UserError(f'the process that draws and writes the files was ended (status {self._process.exitcode}); '
                            'is the memory full? The files end there') from None
        if isinstance(reply, BaseException):
            raise reply
        if isinstance(reply, int):
            self._free.append(reply)
        else:
            self._results, self._going = reply, False


def _image(memory: mmap.mmap, slot: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(memory, np.uint8, math.prod(shape), slot * SLOT_BYTES).reshape(shape)


def _serve(consumers: Sequence[FrameConsumer], memory: mmap.mmap, frames: Connection, replies: Connection,
           *theirs: Connection) -> None:
    """The process: feeds the consumers until the frames end or nobody is there to send more.

    Args:
        frames: brings (slot, shape, image if it is not in the slot, sample), at last None.
        replies: takes back slots, errors, at last the results.
        theirs: the other ends, which must close when the process that forked this one ends.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    gc.freeze()  # nothing of the other process, tensors on a GPU for example, is collected here
    for end in theirs:
        end.close()

    def tell(reply: Any) -> None:
        with suppress(BrokenPipeError):  # nobody is left to hear it: the files matter
            replies.send(reply)

    def attempt(function: Callable[..., None], *args: Any) -> bool:
        try:
            function(*args)
        except Exception as error:
            if not isinstance(error, UserError):  # whose text is the whole message
                error.add_note(traceback.format_exc())
            try:
                tell(error)
            except Exception:  # it cannot be pickled
                tell(RuntimeError(traceback.format_exc()))
            return False
        return True

    files, going = _Consumers(consumers), True
    while message := _next(frames):
        slot, shape, image, sample = message
        if going:  # after an error the rest is dropped
            going = attempt(files.write, (image if shape is None else _image(memory, slot, shape), sample))
        tell(slot)
    attempt(files.close)
    tell(files.results)


def _next(frames: Connection) -> tuple | None:
    """The next frame; None when no more comes."""
    try:
        return frames.recv()
    except (EOFError, OSError):  # OSError: the other process ended within a message
        return None
