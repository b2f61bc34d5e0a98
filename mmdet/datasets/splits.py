"""Divide the videos of an annotation file in two, stratified by category; for tools/split_dataset.py."""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np


def stratified_split(counts: Sequence[Mapping[int, int]], share: float, seed: int) -> list[bool]:
    """Which videos go to the second part, so that it has about this share of the objects of every category.

    Iterative stratification (Sechidis et al., 2011): the category with the fewest objects left is dealt out first,
    video by video, to the part that is further from its due.

    Args:
        counts: objects by category of each video.
        share: of the videos in the second part, 0–1, exclusive; rounded, but of two or more videos each part gets one.
        seed: order of videos that are alike.
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
        # the fullest videos first: small ones can still even out what they upset
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
