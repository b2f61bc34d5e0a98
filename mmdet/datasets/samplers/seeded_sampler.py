"""Reproducible samplers for training; built from the training configs and used by the training loop.

Every item has a random generator of its own, seeded with the seed of the run, the epoch and the position in the epoch,
so its random numbers depend neither on the number of workers nor on interruptions.
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
    """An int index that also carries the seed of the random generator of its item.

    Attributes:
        seed: seed of what is drawn for the item alone.
        step_seed: seed of what is drawn once for all items of a step, in all processes; None if there is none.
        place_seed: seed of what is drawn once for the items at one place of the batches of all processes; None in a
            single process, where that is the item alone.
    """

    seed: tuple[int, ...]
    step_seed: tuple[int, ...] | None
    place_seed: tuple[int, ...] | None

    def __new__(cls, index: int, seed: tuple[int, ...], step_seed: tuple[int, ...] | None = None,
                place_seed: tuple[int, ...] | None = None) -> SeededIndex:
        self = super().__new__(cls, index)
        self.seed, self.step_seed, self.place_seed = seed, step_seed, place_seed
        return self

    def __reduce__(self) -> tuple:
        return SeededIndex, (int(self), self.seed, self.step_seed, self.place_seed)

    def with_index(self, index: int) -> SeededIndex:
        """Return another index with the same seeds."""
        return SeededIndex(index, self.seed, self.step_seed, self.place_seed)


@DATA_SAMPLERS.register_module()
class SeededSampler(Sampler):
    """Distribute a new random permutation of the items among the processes in each epoch.

    The permutation is the same in all processes. Its first items are repeated at the end where needed, so that all
    processes have equally many items.

    Args:
        dataset: object with a length.
        shuffle: False: keep the items in order.
        seed: seed, which must be the same in all processes; None: a random seed that is sent to all processes.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None) -> None:
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.rank, self.world_size = get_dist_info()
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; called by mmengine before each epoch, including the first one after a resume."""
        self.epoch = epoch

    def permute(self, values: np.ndarray, stream: int) -> np.ndarray:
        """Return the rows in the random order of the epoch; orders of different streams are independent."""
        return np.random.default_rng((self.seed, self.epoch, stream)).permutation(values) if self.shuffle else values

    def seeded(self, index: int, position: int, place: int, step: int | None = None) -> SeededIndex:
        """Return an index with its seeds in this epoch.

        Args:
            index: index of the item.
            position: position over all processes.
            place: position in the process.
            step: number of the step, if the sampler knows it.
        """
        return SeededIndex(index, (self.seed, self.epoch, position, 1),
                           None if step is None else (self.seed, self.epoch, step, 2),
                           (self.seed, self.epoch, place, 3) if self.world_size > 1 else None)

    def __iter__(self) -> Iterator[SeededIndex]:
        total = len(self) * self.world_size
        order = np.resize(self.permute(np.arange(len(self.dataset)), 0), total)
        for place in range(self.rank, total, self.world_size):
            yield self.seeded(int(order[place]), place, place // self.world_size)

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.world_size)


@DATA_SAMPLERS.register_module()
class AspectRatioBatchSampler(Sampler):
    """Form batches in which all images are wider than high or none is, to reduce padding.

    It is called GroupSampler in the published code. The two groups of items are permuted separately, and the first
    items of each are repeated at its end to complete a step of all processes; then the order of the steps is permuted.
    In each step, all processes have a batch of the same group, and all have equally many batches.

    Args:
        sampler: provides seed, epoch, rank and data set (``get_data_info(i)['wide']``); its own order is not used.
        batch_size: number of items per process.

    Raises:
        UserError: ``sampler`` is not a :class:`SeededSampler`.
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
        """Skip the first batches, which an interrupted run has processed, in the next epoch only."""
        self._skipped = batches

    @property
    def _step(self) -> int:
        """Number of items in one step of all processes."""
        return self.batch_size * self.sampler.world_size

    def __iter__(self) -> Iterator[list[SeededIndex]]:
        skipped, self._skipped = self._skipped, 0
        steps = np.concatenate([
            np.resize(self.sampler.permute(group, 1 + number), (-(-len(group) // self._step), self._step))
            for number, group in enumerate(self._groups)])
        steps = self.sampler.permute(steps, 0)
        mine = range(self.sampler.rank * self.batch_size, (self.sampler.rank + 1) * self.batch_size)
        for number in range(skipped, len(steps)):
            yield [self.sampler.seeded(int(steps[number, item]), number * self._step + item,
                                       number * self.batch_size + place, number) for place, item in enumerate(mine)]

    def __len__(self) -> int:
        return sum(-(-len(group) // self._step) for group in self._groups)
