"""Several data sets in one, in any proportion; built from a config by name."""
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
    """Data sets with the same classes, one behind the other, each repeated or thinned by its weight.

    A data set of n items and weight w has round(w · n) places in an epoch: every item ⌊w⌋ times; each of the places
    left over takes a random item from a share of its own of the data set, another one each time, so that all items are
    seen in the long run. Shares do not mix wide and high images (but for one).

    Args:
        datasets: configs or data sets for training.
        weights: of each data set, above 0; None: 1 each.
        shares: instead of weights: how the places are divided among the data sets, whatever their sizes; the first one
            has weight 1. ``(1, 1)``: as many items from each.
        lazy_init: see mmengine's ConcatDataset.

    Raises:
        UserError: wrong weights, or data sets with different classes.
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
            raise UserError(f'WeightedConcatDataset needs one {name} above 0 for each of its {count} datasets, '
                            f'not {numbers}')

    def full_init(self) -> None:
        """Read the data sets and list the item of each place."""
        if self._fully_initialized:
            return
        super().full_init()
        self._orders = [np.argsort([not d.get_data_info(i)['wide'] for i in range(len(d))], kind='stable')
                        for d in self.datasets]
        if self.shares is not None:
            self.weights = [share / self.shares[0] * len(self.datasets[0]) / len(dataset)
                            for share, dataset in zip(self.shares, self.datasets)]
        places = [max(round(weight * len(d)), 1) for weight, d in zip(self.weights, self.datasets)]
        self.cumulative_sizes = np.cumsum(places).tolist()

    @property
    def num_bad_frames(self) -> int:
        """Unreadable frames met so far, see :class:`~mmdet.datasets.YVISDataset`."""
        return sum(dataset.num_bad_frames for dataset in self.datasets)

    @force_full_init
    def get_data_info(self, idx: int) -> dict:
        """What stands at a place; where items take turns, one of them."""
        dataset, choices = self._place(idx)
        return self.datasets[dataset].get_data_info(int(choices[0]))

    @force_full_init
    def __getitem__(self, idx: int) -> dict:
        dataset, choices = self._place(idx)
        seed = getattr(idx, 'seed', (np.random.randint(2 ** 31),))
        item = int(choices[0] if len(choices) == 1 else np.random.default_rng((*seed, dataset)).choice(choices))
        return self.datasets[dataset][SeededIndex(item, seed)]

    def _place(self, idx: int) -> tuple[int, np.ndarray]:
        """The data set of a place and the items that take turns there."""
        dataset, place = self._get_ori_dataset_idx(idx)
        order = self._orders[dataset]
        size = self.cumulative_sizes[dataset] - (self.cumulative_sizes[dataset - 1] if dataset else 0)
        whole = size // len(order) * len(order)
        if place < whole:
            return dataset, order[place % len(order)][None]
        edges = np.arange(place - whole, place - whole + 2) * len(order) // (size - whole)
        return dataset, order[edges[0]:edges[1]]


def _check_classes(first: BaseDataset, other: BaseDataset) -> None:
    names, other_names = first.metainfo.get('classes'), other.metainfo.get('classes')
    if names != other_names:
        raise UserError(f'data sets trained together need the same categories in the same order: {first.ann_file} has '
                        f'{shortened(names or ())}, {other.ann_file} has {shortened(other_names or ())}; for COCO set '
                        'target')
