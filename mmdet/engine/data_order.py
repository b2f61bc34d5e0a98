"""Which samples a training step sees, and their random numbers, as a function of seed, epoch and index alone.

So the number of loader workers changes nothing, and training resumed in the middle of an epoch goes on with the very samples
it would have seen. Used by :class:`mmdet.engine.train_loop.ResumableTrainLoop`.
"""
from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, Dataset, Sampler

from mmdet.registry import DATA_SAMPLERS, DATASETS

_EPOCH = 1 << 32  # a draw is epoch · 2³² + index


def resumable(dataloader: dict, seed: int) -> dict:
    """A data loader's config with dataset and batches wrapped by the two classes below."""
    dataloader = dict(dataloader)
    batches = dict(type='ResumableBatchSampler', batch_sampler=dataloader.pop('batch_sampler', None),
                   drop_last=dataloader.pop('drop_last', False))
    dataset = dict(type='SeededDataset', dataset=dataloader['dataset'], seed=seed)
    return dict(dataloader, dataset=dataset, batch_sampler=batches)


@DATASETS.register_module()
class SeededDataset(Dataset):
    """A dataset whose transforms draw from generators seeded by (seed, epoch, index).

    Args:
        dataset: the dataset or its config.
        seed: of the whole training.
    """

    def __init__(self, dataset: Dataset | dict, seed: int) -> None:
        self.dataset: Any = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.seed = seed

    @property
    def metainfo(self) -> dict:
        return self.dataset.metainfo

    def full_init(self) -> None:
        self.dataset.full_init()

    def get_data_info(self, index: int) -> dict:
        return self.dataset.get_data_info(index)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: int) -> Any:
        epoch, index = divmod(draw, _EPOCH)
        state = np.random.SeedSequence((self.seed, epoch, index)).generate_state(3)
        np.random.seed(state[0])
        random.seed(int(state[1]))
        torch.default_generator.manual_seed(int(state[2]))
        return self.dataset[index]


@DATA_SAMPLERS.register_module()
class ResumableBatchSampler(Sampler):
    """Batches of draws (see the module), of which the first ``start`` are left out.

    Args:
        sampler: gives the indices of an epoch; its ``epoch`` attribute, if any, is the epoch.
        batch_size: samples per batch.
        drop_last: leave out a last batch that is not full.
        batch_sampler: config of the batch sampler to wrap; None: consecutive indices make a batch.
    """

    def __init__(self, sampler: Sampler, batch_size: int, drop_last: bool = False, batch_sampler: dict | None = None) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        if batch_sampler is None:
            self.batches: Any = BatchSampler(sampler, batch_size, drop_last)
        else:
            self.batches = DATA_SAMPLERS.build(batch_sampler, default_args=dict(sampler=sampler, batch_size=batch_size))
        self.start = 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        offset = getattr(self.sampler, 'epoch', 0) * _EPOCH
        for batch in itertools.islice(self.batches, self.start, None):
            yield [offset + index for index in batch]
