"""mmengine's training by epochs, resumable at any iteration. Built by the runner from ``train_cfg``."""
from __future__ import annotations

from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from mmdet.engine.data_order import resumable
from mmdet.registry import LOOPS


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """Training by epochs; a resumed run continues with the batch after the last one that was learnt from.

    Args:
        runner: the runner.
        dataloader: config of the training data loader.
        max_epochs: number of epochs.
        val_begin: first epoch after which the validation set is scored.
        val_interval: epochs from one validation to the next.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, max_epochs: int, val_begin: int = 1,
                 val_interval: int = 1) -> None:
        if isinstance(dataloader, dict):
            dataloader = resumable(dataloader, runner.seed)
        super().__init__(runner, dataloader, max_epochs, val_begin, val_interval)

    def restore(self, iterations_per_epoch: int) -> None:
        """Scales the resumed iteration if an epoch had another length (another number of processes) when it was saved."""
        length = len(self.dataloader)
        if iterations_per_epoch != length:
            saved, self._iter = self._iter, round(self._iter * length / iterations_per_epoch)
            self.runner.logger.warning(f'An epoch has {length} iterations here and had {iterations_per_epoch} when the '
                                       f'checkpoint was saved: continuing at iteration {self._iter} instead of {saved}')

    def run_epoch(self) -> None:
        """The rest of the current epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)
        self.dataloader.batch_sampler.start = done
        for index, data_batch in enumerate(self.dataloader, start=done):
            self.run_iter(index, data_batch)
        self.dataloader.batch_sampler.start = 0
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
