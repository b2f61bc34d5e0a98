"""Ctrl-C and SIGTERM during training: save after the current iteration, then exit. A default hook of every config."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce, barrier
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdet.engine.atomic_backend import ATOMIC
from mmdet.engine.stop_signal import StopSignal
from mmdet.registry import HOOKS


@HOOKS.register_module()
class StopHook(Hook):
    """Writes ``iter_N.pth`` and exits with status 75 after SIGTERM, 130 after Ctrl-C.

    During validation, the rest of the validation is skipped, and a resumed training continues after it.

    Args:
        interval: with several processes, number of iterations between two all-reduces of the received signals, each of
            which synchronises with the GPU.
    """

    priority = 'LOWEST'

    def __init__(self, interval: int = 10) -> None:
        self.interval = interval
        self.signal = StopSignal()

    def before_train(self, runner: Runner) -> None:
        self.signal = StopSignal.of_job(runner.world_size)
        self.signal.__enter__()

    def after_train(self, runner: Runner) -> None:
        self.signal.__exit__()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: dict | None = None) -> None:
        if self._agreed(runner):
            self._save(runner, runner.iter + 1)
            barrier()
            self._exit()

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                       outputs: Sequence | None = None) -> None:
        """Stop without an all-reduce: validating processes do not wait for each other, and each gets the signal."""
        if self.signal.received:
            self._save(runner, runner.iter)
            self._exit()

    def _agreed(self, runner: Runner) -> bool:
        """Return whether any process received a signal to stop; all processes get the same result."""
        mine = self.signal.received
        if runner.world_size == 1:
            return bool(mine)
        if not self.every_n_train_iters(runner, self.interval):
            return False
        received = torch.tensor(mine, device=get_device())
        all_reduce(received, 'max')
        self.signal.received = int(received)
        return bool(received)

    def _save(self, runner: Runner, done: int) -> None:
        self.signal.no_limit()
        name = f'iter_{done}.pth'
        runner.save_checkpoint(runner.work_dir, name, meta=dict(epoch=runner.epoch, iter=done), by_epoch=False,
                               backend_args=ATOMIC)
        runner.logger.info(f'Stopped after iteration {done}; saved {name}. The same command with --resume continues.')

    def _exit(self) -> NoReturn:
        raise SystemExit(self.signal.exit_status)
