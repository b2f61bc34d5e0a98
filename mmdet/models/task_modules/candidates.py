"""The most promising locations of each pyramid level; called by the one-stage heads in testing."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def best_per_level(score: Tensor, level_sizes: Sequence[tuple[int, int]], count: int) -> Tensor:
    """Indices of the ``count`` best locations of each level, or of all where it has fewer.

    Args:
        score: (B, N), N locations in level order.
        level_sizes: (h, w) of each level.

    Returns:
        (B, S) int64.
    """
    sizes = [height * width for height, width in level_sizes]
    index, start = [], 0
    for size, level in zip(sizes, score.split(sizes, dim=1)):
        index.append(level.topk(min(count, size), dim=1).indices + start)
        start += size
    return torch.cat(index, dim=1)
