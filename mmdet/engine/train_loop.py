"""mmengine's training loop by epochs, resumable at any iteration. Built by the runner from ``train_cfg``."""
from __future__ import annotations

import itertools
from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop

from mmdet.engine.prefetch import prefetched
from mmdet.engine.workers import stop_pass
from mmdet.errors import counted
from mmdet.registry import LOOPS


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """Training by epochs; a resumed run continues with the batch after the last one of the interrupted run.

    Batch samplers with a method ``skip(batches)``, such as this project's, skip the completed batches; with other
    samplers, these batches are loaded and discarded.

    Args:
        *args, **kwargs: arguments of mmengine's ``EpochBasedTrainLoop``.
        prefetch: on a GPU, preprocess the next batch there during the current training step. Hooks get the batch as
            loaded. A hook that changes it must set its attribute ``ready`` to None, see :mod:`mmdet.engine.prefetch`.
    """

    _iter: int

    def __init__(self, *args: Any, prefetch: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prefetch = prefetch

    def restore(self, iterations_per_epoch: int) -> None:
        """Scale the resumed iteration if an epoch had another length when it was saved, with other processes."""
        length = len(self.dataloader)
        if iterations_per_epoch != length:
            saved, self._iter = self._iter, round(self._iter * length / iterations_per_epoch)
            self.runner.logger.warning(
                f'An epoch has {counted(length, "iteration")} here and had {iterations_per_epoch} when the checkpoint '
                f'was saved: continuing at iteration {self._iter} instead of {saved}')

    def run_epoch(self) -> None:
        """Run the rest of the current epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)
        skips = hasattr(self.dataloader.batch_sampler, 'skip')
        if skips:
            self.dataloader.batch_sampler.skip(done)
        loaded = iter(self.dataloader)
        batches = itertools.islice(loaded, 0 if skips else done, None)
        model = self.runner.model.module if is_model_wrapper(self.runner.model) else self.runner.model
        preprocessor = getattr(model, 'data_preprocessor', None) if self.prefetch else None
        try:
            with prefetched(batches, self.dataloader, model, preprocessor) as ready:
                for index, data_batch in enumerate(ready, start=done):
                    self.run_iter(index, data_batch)
        except BaseException:
            stop_pass(loaded)
            raise
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
