"""Base class of the detectors: modes of ``forward``, stream states, the tracking loop, a lock for threads.

Called by mmengine's runner and :class:`mmdet.apis.VideoInferencer`, which hold the stream states.
"""
from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserError, counted
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, StreamState, TrackDataSample


class ModelLock:
    """A re-entrant lock; copies and pickles of the model have a new lock."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple:
        return type(self), ()


def is_context(frame: DetDataSample) -> bool:
    """Return whether the frame is only context of other frames, without results of its own."""
    return frame.get('is_context', False)


class BaseDetector(BaseModel):
    """Base class of the detectors of images and videos.

    The state of each video is a :class:`StreamState` held by the caller::

        stream = model.new_stream()
        for data in clips_of_one_video:
            results = model.test_step({**data, 'streams': [stream]})

    A batch may contain clips of several videos, each with its own state, and several clips of one video in order, with
    the same state. For a clip without a state, a new one is created if the clip begins with frame 0; otherwise this is
    an error, since its ids would be wrong. ``test_step`` and ``predict`` run in one thread at a time, because threads
    share the buffers of the model's CUDA graphs.

    Subclasses define ``extract_feat``, ``loss`` and one of

    - :meth:`detect`, which detects the objects of frames, without state; the ``tracker`` assigns ids;
    - :meth:`new_stream` and :meth:`launch`, if the network itself has a state from frame to frame.

    Attributes:
        learns_from_pairs: whether an item of the training is a key and a reference frame; False: any number of frames.

    Args:
        tracker: config of a tracker with ``new_state()`` and ``track(instances, state)``; None: no ids.
        data_preprocessor: config.
        init_cfg: mmengine's.
    """

    learns_from_pairs = False

    def __init__(self, tracker: dict | None = None, data_preprocessor: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        # built here, since mmengine would look up the preprocessor in its own registry
        super().__init__(MODELS.build(data_preprocessor) if data_preprocessor else None, init_cfg)
        self.tracker: Any = MODELS.build(tracker) if tracker else None
        self._lock = ModelLock()

    def forward(self, inputs: Tensor, data_samples: list[TrackDataSample] | None = None, mode: str = 'tensor',
                streams: Sequence[StreamState | None] | None = None) -> object:
        """Run the model.

        Args:
            inputs: (N, T, 3, H, W) float32, normalised, H and W multiples of 32. In training of models with reference
                frames T = 2, key and reference frame.
            data_samples: N clips of T frames.
            mode: ``'loss'`` returns a dict of losses, ``'predict'`` the clips with ``pred_track_instances`` on every
                frame, ``'tensor'`` the raw outputs for all N·T frames.
            streams: N states, for ``'predict'``; see :meth:`predict`.

        Raises:
            UserError: the model learns from pairs, and the training set has other clips.
        """
        if mode == 'tensor':
            return self._forward(inputs)
        assert data_samples is not None, f'mode {mode!r} needs data_samples'
        if mode == 'loss':
            if self.learns_from_pairs and inputs.shape[1] != 2:
                raise UserError(f'{type(self).__name__} learns from pairs of key and reference frame, but the items of '
                                f'the training set have {counted(inputs.shape[1], "frame")}; leave train_clip_len out '
                                'for videos, and use the data set COCOVIS for images')
            return self.loss(inputs, data_samples)
        assert mode == 'predict', f"mode {mode!r} is none of 'loss', 'predict', 'tensor'"
        with self._lock:
            return self.predict(inputs, data_samples, streams)

    def val_step(self, data: dict) -> list[TrackDataSample]:
        """See :meth:`test_step`."""
        return self.test_step(data)

    def test_step(self, data: dict) -> list[TrackDataSample]:
        """Preprocess collated clips and predict their results.

        Clips of different length or size are not processed in one batch, so that the results of a clip do not depend on
        the other clips.

        Args:
            data: ``inputs``: N clips (T, 3, h, w) uint8; ``data_samples``: N clips; optionally ``streams``: N states.
        """
        return self.start_test_step(data)()

    def start_test_step(self, data: dict) -> Callable[[], list[TrackDataSample]]:
        """Launch the network for collated clips; return a function that completes and returns their results.

        The function copies the detections to the host, encodes the masks and tracks the objects. On a GPU it may be
        called after the next clips were launched, so that both run at the same time; it must be called once, and in the
        order of the clips.

        Args:
            data: see :meth:`test_step`.
        """
        streams = data.get('streams') or [None] * len(data['inputs'])
        parts: list[Callable[[], list[TrackDataSample]]] = []
        with self._lock:
            clips = zip(data['inputs'], data['data_samples'], streams, strict=True)
            for _, group in groupby(clips, key=lambda clip: tuple(clip[0].shape)):
                inputs, samples, group_streams = zip(*group)
                batch = self.data_preprocessor({'inputs': list(inputs), 'data_samples': list(samples)}, False)
                parts.append(self.launch(**batch, streams=group_streams))

        def finish() -> list[TrackDataSample]:
            with self._lock:
                return [clip for part in parts for clip in part()]

        return finish

    def extract_feat(self, images: Tensor) -> Sequence[Tensor]:
        """Compute the pyramid's maps of normalised images (B, 3, H, W)."""
        raise NotImplementedError

    def loss(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> dict[str, Tensor]:
        """Compute the losses of N clips."""
        raise NotImplementedError

    def _forward(self, inputs: Tensor) -> object:
        return self.extract_feat(inputs.flatten(0, 1))

    # -----------------------------------------------------------------------------------------------------------------
    # Testing

    def new_stream(self) -> StreamState | None:
        """Return the state of a video before its first frame; None if the model does not track."""
        return self.tracker.new_state() if self.tracker is not None else None

    def predict(self, inputs: Tensor, data_samples: list[TrackDataSample],
                streams: Sequence[StreamState | None] | None = None) -> list[TrackDataSample]:
        """Detect objects in all frames, then track them frame by frame.

        Args:
            inputs: (N, T, 3, H, W).
            data_samples: N clips of T frames; clips of one video must be in order.
            streams: N states, updated in place. None (for all clips or one) creates a new state, for clips that begin
                with frame 0.

        Returns:
            The clips, without context frames.

        Raises:
            UserError: if a clip from the middle of a video has no state, or the state of another video or of a later
                frame.
        """
        return self.launch(inputs, data_samples, streams)()

    @torch.no_grad()
    def launch(self, inputs: Tensor, data_samples: list[TrackDataSample],
               streams: Sequence[StreamState | None] | None = None) -> Callable[[], list[TrackDataSample]]:
        """Perform the first half of :meth:`predict`, the network; return a function that performs the second half.

        See :meth:`start_test_step`; the arguments are those of :meth:`predict`.
        """
        states = self._states(data_samples, streams)
        clips = [_without_context(clip) for clip in data_samples]
        found = self.detect_in_streams(inputs, data_samples, states)

        @torch.no_grad()
        def finish() -> list[TrackDataSample]:
            for clip, state, detections in zip(clips, states, found, strict=True):
                for frame, instances in zip(clip, detections, strict=True):
                    if state is not None and self.tracker is not None:
                        state.advance(frame)
                        instances = self.tracker.track(instances, state)
                        del instances.embeddings
                    frame.pred_track_instances = instances
            return clips

        return finish

    def detect_in_streams(self, inputs: Tensor, data_samples: list[TrackDataSample],
                          states: Sequence[StreamState | None]) -> Iterable[Sequence[InstanceData]]:
        """Call :meth:`detect`; overridden by detectors whose network carries a state and whose objects are tracked.

        The position of the states is that of frames whose results are complete, possibly earlier than those launched.
        Such a detector keeps its state in :attr:`StreamState.network`, and begins anew at frame 0.
        """
        return self.detect(inputs, data_samples)

    def detect(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> Iterable[Sequence[InstanceData]]:
        """Detect the objects of each frame, without tracking.

        What is launched before the result is iterated overlaps with the host's work for earlier clips. The iteration
        must not wait for work that was launched after this call; see :class:`mmdet.ops.device.Launched`.

        Args:
            inputs: (N, T, 3, H, W).
            data_samples: N clips of T frames, whose metainfo is used.

        Returns:
            For each clip, the detections of its frames in order, without context frames: ``bboxes`` (n, 4) in original
            pixels, ``scores``, ``labels``, ``masks`` (RLE) and further fields of the model, in descending order of
            score, on the CPU; with a tracker also ``embeddings`` (n, C).
        """
        raise NotImplementedError

    def _states(self, clips: Sequence[TrackDataSample],
                streams: Sequence[StreamState | None] | None) -> list[Any]:
        """Return the states of the clips, creating missing ones; check them before the network runs."""
        given = streams if streams is not None else [None] * len(clips)
        states: list[StreamState | None] = []
        for clip, state in zip(clips, given, strict=True):
            first = next((frame for frame in clip if not is_context(frame)), None)
            if state is None:
                state = self.new_stream()
                if state is not None and first is not None and first.frame_id != 0:
                    raise UserError(
                        f'the clip begins with frame {first.frame_id} of video {first.get("video_id")} and has no '
                        "stream state: pass the state of the frames before, test_step({..., 'streams': [state]}), or "
                        'model.new_stream() to begin there')
            elif first is not None:
                state.check(first)
            states.append(state)
        return states


def _without_context(clip: TrackDataSample) -> TrackDataSample:
    if not any(is_context(frame) for frame in clip):
        return clip
    result = clip.new()
    result.video_data_samples = [frame for frame in clip if not is_context(frame)]
    return result
