"""mmengine's training by epochs, resumable at any iteration. Built by the runner from ``train_cfg``."""
from __future__ import annotations

import itertools

from mmengine.runner import EpochBasedTrainLoop

from mmdet.registry import LOOPS


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """Training by epochs; a resumed run continues with the batch after the last one that was learnt from.

    Takes the arguments of mmengine's ``EpochBasedTrainLoop``. Batch samplers with ``skip(batches)``, as this project's,
    leave the learnt batches out; with others they are loaded and thrown away.
    """

    _iter: int

    def restore(self, iterations_per_epoch: int) -> None:
        """Scales the resumed iteration if an epoch had another length (other processes) when it was saved."""
        length = len(self.dataloader)
        if iterations_per_epoch != length:
            saved, self._iter = self._iter, round(self._iter * length / iterations_per_epoch)
            self.runner.logger.warning(
                f'An epoch has {length} iterations here and had {iterations_per_epoch} when the checkpoint was saved: '
                f'continuing at iteration {self._iter} instead of {saved}')

    def run_epoch(self) -> None:
        """The rest of the current epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)
        if hasattr(self.dataloader.batch_sampler, 'skip'):
            self.dataloader.batch_sampler.skip(done)
            batches = iter(self.dataloader)
        else:
            batches = itertools.islice(self.dataloader, done, None)
        for index, data_batch in enumerate(batches, start=done):
            self.run_iter(index, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
