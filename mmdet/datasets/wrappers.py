"""Concatenation of data sets in any proportion; built from a config by name."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmengine.dataset import BaseDataset, ConcatDataset
from mmengine.dataset.base_dataset import force_full_init

from mmdet.datasets.samplers.seeded_sampler import SeededIndex
from mmdet.errors import UserError, shortened
from mmdet.registry import DATASETS


@DATASETS.register_module()
class WeightedConcatDataset(ConcatDataset):
    """Concatenate data sets with the same classes, each repeated or subsampled according to its weight.

    A data set with n items and weight w has round(w · n) indices. Every item has ⌊w⌋ indices of its own. The remaining
    indices divide the items of the data set into disjoint groups; each returns a random item of its group, so that all
    items are seen over many epochs. At most one of these groups contains both wide and high images.

    Args:
        datasets: configs or data sets for training.
        weights: weight of each data set, above 0; None: 1 each.
        shares: relative numbers of indices of the data sets, whatever their sizes, instead of ``weights``; the first
            data set then has weight 1. For example, ``(1, 1)`` draws equally many items of each.
        lazy_init: see mmengine's ConcatDataset.

    Raises:
        UserError: the weights are wrong, or the data sets have different classes.
    """

    def __init__(self, datasets: Sequence[dict | BaseDataset], weights: Sequence[float] | None = None,
                 lazy_init: bool = False, shares: Sequence[float] | None = None) -> None:
        if weights is not None and shares is not None:
            raise UserError('WeightedConcatDataset takes weights or shares, not both')
        self.shares = shares
        self._check_numbers('weight', weights, len(datasets))
        self._check_numbers('share', shares, len(datasets))
        self.weights = [1.] * len(datasets) if weights is None else [float(weight) for weight in weights]
        built = [DATASETS.build(dataset) if isinstance(dataset, dict) else dataset for dataset in datasets]
        for dataset in built[1:]:
            _check_classes(built[0], dataset)
        super().__init__(built, lazy_init=lazy_init, ignore_keys=sorted(set().union(*(d.metainfo for d in built))))

    @staticmethod
    def _check_numbers(name: str, numbers: Sequence[float] | None, count: int) -> None:
        if not count or (numbers is not None
                         and (len(numbers) != count or not all(0 < number < np.inf for number in numbers))):
            raise UserError(f'WeightedConcatDataset needs one {name} above 0 for each of its datasets '
                            f'({count}), not {numbers}')

    def full_init(self) -> None:
        """Read the data sets and compute the number of indices of each."""
        if self._fully_initialized:
            return
        super().full_init()
        self._orders = [np.argsort([not d.get_data_info(i)['wide'] for i in range(len(d))], kind='stable')
                        for d in self.datasets]
        if self.shares is not None:
            self.weights = [share / self.shares[0] * len(self.datasets[0]) / len(dataset)
                            for share, dataset in zip(self.shares, self.datasets)]
        sizes = [max(round(weight * len(d)), 1) for weight, d in zip(self.weights, self.datasets)]
        self.cumulative_sizes = np.cumsum(sizes).tolist()

    @property
    def num_bad_frames(self) -> int:
        """Number of unreadable frames so far, see :class:`~mmdet.datasets.YVISDataset`."""
        return sum(dataset.num_bad_frames for dataset in self.datasets)

    @force_full_init
    def get_data_info(self, idx: int) -> dict:
        """Return the information of the item at an index, or of the first item of the group of the index."""
        dataset, choices = self._choices(idx)
        return self.datasets[dataset].get_data_info(int(choices[0]))

    @force_full_init
    def __getitem__(self, idx: int) -> dict:
        dataset, choices = self._choices(idx)
        seeded = idx if isinstance(idx, SeededIndex) else SeededIndex(idx, (np.random.randint(2 ** 31),))
        item = int(choices[0] if len(choices) == 1 else np.random.default_rng((*seeded.seed, dataset)).choice(choices))
        return self.datasets[dataset][seeded.with_index(item)]

    def _choices(self, idx: int) -> tuple[int, np.ndarray]:
        """Return the position of the data set that an index belongs to, and the items that the index may return."""
        dataset, offset = self._get_ori_dataset_idx(idx)
        order = self._orders[dataset]
        size = self.cumulative_sizes[dataset] - (self.cumulative_sizes[dataset - 1] if dataset else 0)
        whole = size // len(order) * len(order)
        if offset < whole:
            return dataset, order[offset % len(order)][None]
        edges = np.arange(offset - whole, offset - whole + 2) * len(order) // (size - whole)
        return dataset, order[edges[0]:edges[1]]


def _check_classes(first: BaseDataset, other: BaseDataset) -> None:
    names, other_names = first.metainfo.get('classes'), other.metainfo.get('classes')
    if names != other_names:
        raise UserError(f'data sets trained together need the same categories in the same order: {first.ann_file} has '
                        f'{shortened(names or ())}, {other.ann_file} has {shortened(other_names or ())}; for COCO set '
                        'target')
