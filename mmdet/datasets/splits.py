"""Split the videos of an annotation file in two parts, stratified by category; called by tools/split_dataset.py."""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np


def stratified_split(counts: Sequence[Mapping[int, int]], share: float, seed: int) -> list[bool]:
    """Choose the videos of the second part so that it has about the given share of the objects of every category.

    Uses iterative stratification (Sechidis et al., "On the Stratification of Multi-label Data", 2011): the videos of
    the category with the fewest remaining objects are assigned first, each to the part that still needs more objects of
    that category.

    Args:
        counts: number of objects by category, for each video.
        share: share of the videos in the second part, in (0, 1); rounded, but with two or more videos no part is empty.
        seed: seed of the random order of videos with equal counts.

    Returns:
        For each video, whether it is in the second part.
    """
    order = np.random.default_rng(seed).permutation(len(counts)).tolist()
    total = sum((Counter(video) for video in counts), Counter())
    due = [{category: part * number for category, number in total.items()} for part in (1 - share, share)]
    room = [len(counts) * (1 - share), len(counts) * share]
    part_of: dict[int, int] = {}
    left = set(order)
    while left:
        remaining = sum((Counter(counts[video]) for video in left), Counter())
        rarest = min(remaining, key=lambda category: (remaining[category], category), default=None)
        # videos with many objects first: those with few can balance the parts afterwards
        dealt = sorted((video for video in order if video in left and (rarest is None or counts[video].get(rarest))),
                       key=lambda video: -sum(counts[video].values()))
        for video in dealt:
            needs = [(room[part] >= .5, 0 if rarest is None else due[part].get(rarest, 0), room[part])
                     for part in (0, 1)]
            part = int(needs[1] > needs[0])
            part_of[video] = part
            left.remove(video)
            room[part] -= 1
            for category, number in counts[video].items():
                due[part][category] -= number
    second = [part_of[video] == 1 for video in range(len(counts))]
    if len(counts) > 1 and len(set(second)) == 1:
        smallest = min(order, key=lambda video: sum(counts[video].values()))
        second[smallest] = not second[smallest]
    return second
