"""Distribute whole videos among the processes of a test; built from the test and validation configs."""
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
    """Assign each video to one process; no item is repeated or left out.

    Videos are assigned in the order of descending length, each to the process with the fewest frames so far, and tested
    in the order of the data set. A process may have none.

    Args:
        dataset: data set in test mode: ``get_data_info(i)`` has ``video`` (its index in the file) and ``length``.
        seed: unused, since nothing is random; mmengine passes it to every sampler.
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
    """Assign n videos to processes: numbers of frames (n,) → ranks (n,) int64 in [0, world_size - 1]."""
    owner = np.zeros(len(frames), np.int64)
    loads = [(0, rank) for rank in range(world_size)]
    for video in np.argsort(-frames, kind='stable'):
        load, rank = heapq.heappop(loads)
        owner[video] = rank
        heapq.heappush(loads, (load + frames[video], rank))
    return owner
