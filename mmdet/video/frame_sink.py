"""Hands frames and their results to what draws and writes them, in a process of its own beside the network.

Called by :class:`mmdet.apis.VideoInferencer` and by the hook of ``test_video.py --show``.
"""
from __future__ import annotations

import atexit
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Protocol

import numpy as np
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.concurrency import BackgroundConsumer, BackgroundProcess, BackgroundThread
from mmdet.structures import DetDataSample

FRAMES_AHEAD = 8  # frames that may wait for the consumers; then the caller waits
META_KEYS = ('video_id', 'frame_id', 'video_length', 'video_name', 'source_frame', 'time', 'img_path')


class FrameConsumer(Protocol):
    """What makes files of frames, such as :class:`mmdet.visualization.SequenceVisualizer`."""

    def add(self, image: np.ndarray | None, sample: DetDataSample) -> None:
        """Take the next frame.

        Args:
            image: (H, W, 3) uint8 BGR, valid during the call; None: not available.
            sample: with ``META_KEYS`` as far as they are known, and ``pred_track_instances`` of NumPy arrays.
        """

    def close(self) -> Any:
        """Finish the files. :meth:`FrameSink.close` returns the result, which must be picklable."""


class FrameSink:
    """Hand frames to consumers in a process of its own or, on other systems than Linux and in daemons, in a thread.

    Make the sink before any decoder is opened or thread started, see :class:`mmdet.concurrency.BackgroundProcess`.
    Memory holds ``FRAMES_AHEAD`` frames.

    Args:
        consumers: each gets every frame. They must not start threads before their first frame, and the caller must not
            use them any more.
    """

    def __init__(self, *consumers: FrameConsumer) -> None:
        every = _Consumers(consumers)
        kind = BackgroundProcess if BackgroundProcess.available() else BackgroundThread
        self._consumer: BackgroundConsumer | None = kind(every.add, every.close, FRAMES_AHEAD, 'files')
        atexit.register(self.close)

    def add(self, image: np.ndarray | None, sample: DetDataSample) -> None:
        """Hand over the next frame; waits while too many are in line.

        Args:
            image: (H, W, 3) uint8 BGR of the original size; None: ``sample.ori_img``, if it has that.
            sample: with ``pred_track_instances``.

        Raises:
            UserError, Exception: what a consumer raised since the last call. Later frames are dropped.
        """
        if self._consumer is None:
            raise RuntimeError('the files are closed already')
        self._consumer.put(sample.get('ori_img') if image is None else image, _slim(sample))

    def close(self) -> list[Any]:
        """Finish all files; more calls do nothing. Raises what a consumer raised since the last call.

        Returns:
            What the consumers' ``close`` returned, in their order; empty if the sink was closed before.
        """
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return []
        atexit.unregister(self.close)
        return consumer.close()

    def __enter__(self) -> FrameSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _slim(sample: DetDataSample) -> DetDataSample:
    """Reduce a sample to what consumers need, as arrays: tensors travel slowly between processes."""
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

    def add(self, image: np.ndarray | None, sample: DetDataSample) -> None:
        for consumer in self._consumers:
            consumer.add(image, sample)

    def close(self) -> list[Any]:
        results: list[Any] = []

        def close(consumer: FrameConsumer) -> None:
            results.append(consumer.close())

        with ExitStack() as closing:  # closes all, also after an error; callbacks run last in, first out
            for consumer in reversed(self._consumers):
                closing.callback(close, consumer)
        return results
