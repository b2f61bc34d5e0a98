"""Progress bar with frames per second and remaining time for testing and validation. A default hook of every config."""
from __future__ import annotations

import sys
from time import perf_counter
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from tqdm import tqdm

from mmdet.registry import HOOKS


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows a progress bar in the first process. The rate is that of this process times the number of processes.

    The rate of the bar is the average since the beginning, with the time until the first result, in which kernels are
    compiled and CUDA graphs captured. That of the second half of a test is ``frames_per_second`` in the log file and in
    mmengine's JSON file of the test.
    """

    def _before_epoch(self, runner: Runner, mode: str = 'train') -> None:
        if mode == 'train':
            return
        sampler = (runner.val_loop if mode == 'val' else runner.test_loop).dataloader.sampler
        self._bar = tqdm(total=len(sampler), unit=' clips', desc=mode, disable=runner.rank != 0,
                         mininterval=0.5 if sys.stderr.isatty() else 10.0)
        self._frames, self._start = 0, perf_counter()
        self._half: tuple[int, float] | None = None  # frames and seconds when half of the clips were done

    def _after_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None,
                    mode: str = 'train') -> None:
        if mode == 'train':
            return
        first = not self._frames
        self._frames += sum(map(len, outputs))
        elapsed = perf_counter() - self._start
        rate = self._frames * runner.world_size / max(elapsed, 1e-9)
        self._bar.set_postfix_str(f'{rate:.1f} frames/s', refresh=False)
        self._bar.update(len(outputs))
        if first:
            self._bar.refresh()  # even if the bar is updated rarely: the start is over
        if self._half is None and 2 * self._bar.n >= self._bar.total:
            self._half = self._frames, elapsed
        if self._bar.n >= self._bar.total:
            frames, seconds = self._half or (0, 0.0)
            if mode == 'test' and self._frames > frames and elapsed > seconds:
                runner.message_hub.update_scalar(
                    'test/frames_per_second', (self._frames - frames) * runner.world_size / (elapsed - seconds))
            self._bar.close()  # before the scores are printed, below which the bar would be repeated

    def _after_epoch(self, runner: Runner, mode: str = 'train') -> None:
        if mode != 'train':
            self._bar.close()
