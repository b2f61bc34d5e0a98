"""Share whole videos among processes in testing; built from the test and validation configs."""
from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from mmdet.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class VideoSampler(Sampler):
    """Each video goes to one process, in the data set's order; no item is repeated or left out.

    Longest videos first, each to the process with the fewest frames so far. A process may get nothing.

    Args:
        dataset: a testing data set: ``get_data_info(i)`` has ``video`` (its position in the file) and ``length``.
        seed: unused: the order is fixed; mmengine gives it to every sampler.
    """

    def __init__(self, dataset: BaseDataset, seed: int | None = None) -> None:
        rank, world_size = get_dist_info()
        items = [dataset.get_data_info(item) for item in range(len(dataset))]
        videos = np.array([item['video'] for item in items], np.int64)
        owner = share_videos(np.bincount(videos, weights=[item['length'] for item in items]), world_size)
        self.indices: list[int] = np.flatnonzero(owner[videos] == rank).tolist()

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


def share_videos(frames: np.ndarray, world_size: int) -> np.ndarray:
    """The process, 0 … world_size - 1, of each of n videos with so many frames: (n,) → (n,) int64."""
    owner = np.zeros(len(frames), np.int64)
    loads = [(0, rank) for rank in range(world_size)]
    for video in np.argsort(-frames, kind='stable'):
        load, rank = heapq.heappop(loads)
        owner[video] = rank
        heapq.heappush(loads, (load + frames[video], rank))
    return owner
