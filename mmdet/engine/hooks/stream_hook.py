"""One stream state per video of the validation and test sets. Registered by :class:`mmdet.engine.VideoRunner`."""
from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmdet.registry import HOOKS
from mmdet.structures import VideoStreams


@HOOKS.register_module()
class StreamHook(Hook):
    """Adds ``'streams'`` to each batch: the state of each clip's video, see :class:`VideoStreams`.

    Batches of models without ``new_stream`` are not changed.
    """

    _streams: VideoStreams | None = None

    def _before_epoch(self, runner: Runner, mode: str = 'train') -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._streams = VideoStreams(model.new_stream) if mode != 'train' and hasattr(model, 'new_stream') else None

    def _before_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, mode: str = 'train') -> None:
        if mode != 'train' and self._streams is not None:
            data_batch['streams'] = self._streams.of(data_batch['data_samples'])

    def _after_epoch(self, runner: Runner, mode: str = 'train') -> None:
        self._streams = None
