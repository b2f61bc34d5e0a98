"""Ctrl-C and SIGTERM during training: save after the running iteration, then end. A default hook of every config."""
from __future__ import annotations

from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce, barrier
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdet.engine.files import ATOMIC
from mmdet.engine.stop_signal import StopSignal
from mmdet.registry import HOOKS


@HOOKS.register_module()
class StopHook(Hook):
    """Writes ``iter_N.pth`` and exits with status 75 after SIGTERM, 130 after Ctrl-C.

    Args:
        interval: with several processes, iterations from one agreement about stopping to the next (an agreement waits
            for the device).
    """

    priority = 'LOWEST'

    def __init__(self, interval: int = 10) -> None:
        self.interval = interval
        self.signal = StopSignal()

    def before_train(self, runner: Runner) -> None:
        self.signal.__enter__()

    def after_train(self, runner: Runner) -> None:
        self.signal.__exit__()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: dict | None = None) -> None:
        if not self._agreed(runner):
            return
        done = runner.iter + 1
        name = f'iter_{done}.pth'
        runner.save_checkpoint(runner.work_dir, name, meta=dict(epoch=runner.epoch, iter=done), by_epoch=False,
                               backend_args=ATOMIC)
        barrier()
        runner.logger.info(f'Stopped after iteration {done}; saved {name}. The same command with --resume continues.')
        raise SystemExit(self.signal.exit_status)

    def _agreed(self, runner: Runner) -> bool:
        """Whether any process was told to stop; the same answer in all."""
        if runner.world_size == 1:
            return bool(self.signal.received)
        if not self.every_n_train_iters(runner, self.interval):
            return False
        received = torch.tensor(self.signal.received, device=get_device())
        all_reduce(received, 'max')
        self.signal.received = int(received)
        return bool(received)
