"""Progress bar with frames per second and remaining time for testing and validation. A default hook of every config."""
from __future__ import annotations

import sys
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from tqdm import tqdm

from mmdet.registry import HOOKS


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows a progress bar in the first process. The rate is that of this process times the number of processes."""

    def _before_epoch(self, runner: Runner, mode: str = 'train') -> None:
        if mode == 'train':
            return
        sampler = (runner.val_loop if mode == 'val' else runner.test_loop).dataloader.sampler
        self._bar = tqdm(total=len(sampler), unit=' clips', desc=mode, disable=runner.rank != 0,
                         mininterval=0.5 if sys.stderr.isatty() else 10.0)
        self._frames = 0

    def _after_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None,
                    mode: str = 'train') -> None:
        if mode == 'train':
            return
        self._frames += sum(map(len, outputs))
        elapsed = self._bar.format_dict['elapsed']
        rate = self._frames * runner.world_size / max(elapsed, 1e-9)
        self._bar.set_postfix_str(f'{rate:.1f} frames/s', refresh=False)
        self._bar.update(len(outputs))
        if self._bar.n >= self._bar.total:
            self._bar.close()  # before the scores are printed, below which the bar would be repeated

    def _after_epoch(self, runner: Runner, mode: str = 'train') -> None:
        if mode != 'train':
            self._bar.close()
