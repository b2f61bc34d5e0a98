"""Initial units of a memory: k-means over what would be written to it.

Called by :class:`mmdet.engine.MemoryInitHook` before the first step of a training.

Symbols: C feature channels, M units u_k, N locations n with values v_n = (feature c_n, C; encoded box, 4).
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather_object, broadcast
from torch import Tensor

from mmdet.models.memory.cnp_memory import CNPMemory, address, unit_sets, write, write_weights

_CANDIDATES = 16  # per unit and process, of which the first centres are chosen


@torch.no_grad()
def initialize_units(memory: CNPMemory, levels: Sequence[Tensor], seed: int, steps: int = 20) -> None:
    """Set the units of a memory with ``init_units='kmeans'`` by :func:`cluster` and mark it as initialised.

    Units that all levels share are clusters of the values of all levels, units of a level those of its values.

    Args:
        memory: the memory; it must be equal in all processes.
        levels: values of each level (n_l, C + 4) that this process found.
        seed: seed of the random choices.
        steps: number of steps of k-means.
    """
    assert memory.initialized is not None
    groups = levels if memory.num_sets > 1 else [torch.cat(list(levels))]
    for units, values in zip(unit_sets(memory).data, groups):
        units.copy_(cluster(units, values.to(units), seed, steps))
    memory.initialized.fill_(True)


def cluster(units: Tensor, values: Tensor, seed: int, steps: int = 20) -> Tensor:
    """Compute units by k-means, with the similarity and the mean of the memory's writes.

    A step assigns each location to the unit with the largest cosine of the features, and moves each unit to the mean of
    its values, that is, it is a write with ``'top1'`` and momentum 0. Units that win no location do not move. The first
    centres are chosen among random values of all processes by k-means++ (Arthur and Vassilvitskii, 2007) with the
    distance 1 − cosine. The result is the same in all processes.

    Args:
        units: (M, C + 4) initial units; with fewer than M candidates, the last ones are kept.
        values: (N, C + 4) of this process; N may be 0.
        seed: seed of the random choices, the same in all processes.
        steps: number of steps.

    Returns:
        (M, C + 4).
    """
    channels = values.shape[1] - 4
    generator = torch.Generator().manual_seed(seed)
    # chosen on the CPU, where the same seed gives the same numbers on all devices
    order = torch.randperm(len(values), generator=generator)[:_CANDIDATES * len(units)].to(values.device)
    candidates = torch.cat(all_gather_object(values[order].cpu()))
    chosen = candidates[spread(F.normalize(candidates[:, :channels], dim=1), len(units), generator)]
    units = torch.cat([chosen.to(units.device), units[len(chosen):]])
    directions = F.normalize(values[:, :channels], dim=1)
    for _ in range(steps):
        weights = write_weights(address(directions, units), 'top1')
        units = write(units, weights, values, momentum=0.0, decay='counted')
    broadcast(units)  # in case that the processes rounded differently
    return units


def spread(directions: Tensor, count: int, generator: torch.Generator) -> list[int]:
    """Choose rows by k-means++: each with a probability proportional to its distance from the nearest one chosen.

    Args:
        directions: (N, C) normalised, on the CPU; the distance is 1 − cosine.
        count: number of rows; at most N are chosen.
        generator: random numbers.

    Returns:
        Indices of min(count, N) rows; distinct as long as there are distinct directions.
    """
    distance = torch.ones(len(directions))
    chosen: list[int] = []
    while len(chosen) < min(count, len(directions)):
        # the constant decides between rows that all equal a chosen one
        index = int(torch.multinomial(distance.clamp(min=1e-12), 1, generator=generator))
        chosen.append(index)
        distance = torch.minimum(distance, 1 - directions @ directions[index])
    return chosen
