"""Order and randomness of training: built from the training configs, driven by the training loop.

Every item draws from a generator of its own, fixed by seed, epoch and place in the epoch. So neither the number of
workers nor an interruption changes what is drawn.
"""
from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mmdet.errors import UserError
from mmdet.registry import DATA_SAMPLERS


class SeededIndex(int):
    """An index with the seed of the item's random generator; a plain int to whoever does not ask."""

    seed: tuple[int, ...]

    def __new__(cls, index: int, seed: tuple[int, ...]) -> SeededIndex:
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __reduce__(self) -> tuple:
        return SeededIndex, (int(self), self.seed)


@DATA_SAMPLERS.register_module()
class SeededSampler(Sampler):
    """A new permutation each epoch, the same in all processes, of which each takes its share.

    The end is filled up from the beginning, so that all processes have equally many items.

    Args:
        dataset: anything with a length.
        shuffle: False: in order.
        seed: the same in all processes; None: agreed upon among them.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None) -> None:
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.rank, self.world_size = get_dist_info()
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by mmengine before each epoch, also the first after a resume."""
        self.epoch = epoch

    def permute(self, values: np.ndarray, stream: int) -> np.ndarray:
        """The epoch's permutation of the rows; streams of different numbers are independent."""
        return np.random.default_rng((self.seed, self.epoch, stream)).permutation(values) if self.shuffle else values

    def seeded(self, index: int, place: int) -> SeededIndex:
        """The index with the seed that belongs to a place (0-based, over all processes) of this epoch."""
        return SeededIndex(index, (self.seed, self.epoch, place, 1))

    def __iter__(self) -> Iterator[SeededIndex]:
        total = len(self) * self.world_size
        order = np.resize(self.permute(np.arange(len(self.dataset)), 0), total)
        for place in range(self.rank, total, self.world_size):
            yield self.seeded(int(order[place]), place)

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.world_size)


@DATA_SAMPLERS.register_module()
class AspectRatioBatchSampler(Sampler):
    """Batches of items that are all wider than high or all not, so that little is padded (the published GroupSampler).

    Wide and high items are permuted apart, each filled up from its beginning to whole batches of all processes; then
    the order of these batches is permuted. All processes have batches of the same kind at the same time, and as many.

    Args:
        sampler: gives seed, epoch, process and data set (``get_data_info(i)['wide']``); the order is this class's own.
        batch_size: items of one process.

    Raises:
        UserError: another kind of sampler.
    """

    def __init__(self, sampler: SeededSampler, batch_size: int) -> None:
        if not isinstance(sampler, SeededSampler):
            raise UserError(f'AspectRatioBatchSampler works with SeededSampler, not {type(sampler).__name__}; '
                            "set train_dataloader.sampler.type='SeededSampler'")
        self.sampler = sampler
        self.batch_size = batch_size
        dataset: Any = sampler.dataset
        wide = np.array([dataset.get_data_info(item)['wide'] for item in range(len(dataset))], bool)
        self._groups = [group for group in (np.flatnonzero(wide), np.flatnonzero(~wide)) if len(group)]
        self._skipped = 0

    def skip(self, batches: int) -> None:
        """Skip the first batches of the next epoch only, which an interrupted run has processed."""
        self._skipped = batches

    @property
    def _step(self) -> int:
        """Items of all processes' batches at one time."""
        return self.batch_size * self.sampler.world_size

    def __iter__(self) -> Iterator[list[SeededIndex]]:
        skipped, self._skipped = self._skipped, 0
        steps = np.concatenate([
            np.resize(self.sampler.permute(group, 1 + number), (-(-len(group) // self._step), self._step))
            for number, group in enumerate(self._groups)])
        steps = self.sampler.permute(steps, 0)
        mine = range(self.sampler.rank * self.batch_size, (self.sampler.rank + 1) * self.batch_size)
        for number in range(skipped, len(steps)):
            yield [self.sampler.seeded(int(steps[number, place]), number * self._step + place) for place in mine]

    def __len__(self) -> int:
        return sum(-(-len(group) // self._step) for group in self._groups)
