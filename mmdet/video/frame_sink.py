"""Pass frames and their results to consumers that draw and write them in a separate process.

Called by :class:`mmdet.apis.VideoInferencer` and by the hook of ``test_video.py --show``.
"""
from __future__ import annotations

import atexit
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from mmdet.concurrency import BackgroundConsumer, BackgroundProcess, BackgroundThread
from mmdet.structures import DetDataSample
from mmdet.structures.instances import add_metainfo, make_instances

FRAMES_AHEAD = 8  # least number of frames that may wait for the consumers before the caller has to wait
META_KEYS = ('video_id', 'frame_id', 'video_length', 'video_name', 'source_frame', 'time', 'dropped', 'img_path',
             'ori_shape')


class FrameConsumer(Protocol):
    """Interface of writers of files, such as :class:`mmdet.visualization.SequenceVisualizer`.

    Attributes:
        needs_image: whether :meth:`add` uses the image. Images are not copied to the process if no consumer does.
    """

    needs_image: bool = False

    def start(self) -> None:
        """Prepare for the first frame, while the caller goes on: import packages, start processes. Default: nothing."""
        return

    def add(self, image: np.ndarray | None, sample: DetDataSample) -> None:
        """Add the next frame.

        Args:
            image: (H, W, 3) uint8 BGR, valid during the call; None: not available, or needed by no consumer.
            sample: sample with those of ``META_KEYS`` that are known, and ``pred_track_instances`` of NumPy arrays.
        """

    def close(self) -> Any:
        """Finish the files. :meth:`FrameSink.close` returns the result, which must be picklable."""


class FrameSink:
    """Pass frames to consumers in a separate process, or in a thread where :class:`BackgroundProcess` is not available.

    Create the sink before a decoder is opened or a thread is started, see :class:`mmdet.concurrency.BackgroundProcess`.
    At most ``FRAMES_AHEAD`` frames, or those of two clips, wait in memory.

    Args:
        consumers: consumers that get every frame. They must not start threads before their first frame, and the caller
            must not use them any more.
        clip: number of frames that :meth:`add_all` gets: one clip is drawn while the next one is added.
    """

    def __init__(self, *consumers: FrameConsumer, clip: int = 1) -> None:
        every = _Consumers(consumers)
        kind = BackgroundProcess if BackgroundProcess.available() else BackgroundThread
        self._needs_image = any(consumer.needs_image for consumer in consumers)
        self._consumer: BackgroundConsumer | None = kind(every.add, every.close, max(2 * clip, FRAMES_AHEAD), 'files',
                                                         start=every.start)
        atexit.register(self.close)

    def add(self, image: np.ndarray | None, sample: DetDataSample) -> None:
        """Pass on the next frame; block while too many frames are waiting.

        Args:
            image: (H, W, 3) uint8 BGR of the original size; None: ``sample.ori_img``, if there is one.
            sample: sample with ``pred_track_instances``.

        Raises:
            UserError, Exception: a consumer has raised it since the last call. Later frames are dropped.
        """
        if self._consumer is None:
            raise RuntimeError('the files are closed already')
        self._consumer.put(self._image(image, sample), *_plain(sample))

    def add_all(self, samples: Iterable[DetDataSample]) -> None:
        """Pass on the next frames, with their ``ori_img``, in less time than one by one; see :meth:`add`."""
        if self._consumer is None:
            raise RuntimeError('the files are closed already')
        self._consumer.put_all([(self._image(None, sample), *_plain(sample)) for sample in samples])

    def _image(self, image: np.ndarray | None, sample: DetDataSample) -> np.ndarray | None:
        if not self._needs_image:
            return None
        return sample.get('ori_img') if image is None else image

    def close(self) -> list[Any]:
        """Finish all files; further calls have no effect.

        Returns:
            The results of ``close`` of the consumers, in their order; empty if the sink was closed before.

        Raises:
            UserError, Exception: a consumer has raised it since the last call.
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


def _plain(sample: DetDataSample) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the metainfo and the objects that consumers need, as dicts of arrays, which are fast to make and send."""
    known = sample.metainfo_keys()
    meta = {key: getattr(sample, key) for key in META_KEYS if key in known}
    if 'pred_track_instances' not in sample:
        return meta, None
    return meta, {name: value.numpy(force=True) if isinstance(value, Tensor) else value
                  for name, value in sample.pred_track_instances.items()}


class _Consumers:
    """Combine several consumers into one."""

    def __init__(self, consumers: Sequence[FrameConsumer]) -> None:
        self._consumers = consumers

    def start(self) -> None:
        for consumer in self._consumers:
            consumer.start()

    def add(self, image: np.ndarray | None, meta: dict[str, Any], found: dict[str, Any] | None) -> None:
        """Add a frame, given as by :func:`_plain`."""
        sample = DetDataSample()
        add_metainfo(sample, meta)
        if found is not None:
            sample.pred_track_instances = make_instances(found)
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
