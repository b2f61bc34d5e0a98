"""Seeds each training step from seed, rank and iteration. A default hook of every config."""
from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdet.registry import HOOKS


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Seeds Python, NumPy and torch before each step, so that processes differ and a resumed run is reproducible."""

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        state = np.random.SeedSequence((runner.seed, runner.rank, runner.iter)).generate_state(3)
        np.random.seed(state[0])
        random.seed(int(state[1]))
        torch.manual_seed(int(state[2]))
