"""Batches of clips of like shape; built from the training configs as ``batch_sampler``."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from mmengine.dataset import DefaultSampler
from torch.utils.data import Sampler

from mmdet.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class AspectRatioBatchSampler(Sampler):
    """Batches of items that are all wider than high or all not, so that little is padded (the published GroupSampler).

    Wide and high items are permuted apart, each filled up from its beginning to whole batches of all processes; then
    the order of these batches is permuted. All processes have batches of the same kind at the same time, and as many.

    Args:
        sampler: mmengine's sampler: gives seed, epoch, process and data set (``get_data_info(i)['wide']``); the order
            is this class's own.
        batch_size: items of one process.
    """

    def __init__(self, sampler: DefaultSampler, batch_size: int) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        dataset = sampler.dataset
        wide = np.array([dataset.get_data_info(item)['wide'] for item in range(len(dataset))], bool)
        self._groups = [group for group in (np.flatnonzero(wide), np.flatnonzero(~wide)) if len(group)]

    @property
    def _step(self) -> int:
        """Items of all processes' batches of one step."""
        return self.batch_size * self.sampler.world_size

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng((self.sampler.seed, self.sampler.epoch))
        steps = np.concatenate([np.resize(rng.permutation(group), (-(-len(group) // self._step), self._step))
                                for group in self._groups])
        first = self.sampler.rank * self.batch_size
        for items in rng.permutation(steps)[:, first:first + self.batch_size]:
            yield items.tolist()

    def __len__(self) -> int:
        return sum(-(-len(group) // self._step) for group in self._groups)
