"""Comparison of the outputs of an exported network with those of the original one."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmdet.export.networks import FrameNetwork

TOLERANCE = 1e-3  # largest difference, relative to max(1, |value|); float32 in another order gives about 1e-5


@dataclass
class Difference:
    """Result of a comparison.

    Attributes:
        largest: by name of the output, the largest difference relative to max(1, |value|); infinite if the numbers of
            detections or candidates differ.
        number: number of detections, candidates or queries that were compared.
    """

    largest: dict[str, float]
    number: int

    def __str__(self) -> str:
        return ', '.join(f'{name} {value:.1e}' for name, value in self.largest.items())

    def within(self, tolerance: float = TOLERANCE) -> bool:
        """Return whether all differences are at most the tolerance."""
        return all(value <= tolerance for value in self.largest.values())


def compare(network: FrameNetwork, expected: Sequence[Tensor], found: Sequence[Tensor]) -> Difference:
    """Compare outputs. Detections of almost equal scores may be in another order: each is compared with the nearest.

    Args:
        network: the network whose outputs these are.
        expected, found: outputs of the original and of the exported network.
    """
    ours, theirs = network.entries(expected), network.entries(found)
    number = len(ours[0])
    if any(a.shape != b.shape for a, b in zip(ours, theirs, strict=True)):
        return Difference(dict.fromkeys(network.outputs, float('inf')), number)
    if number and not _largest(ours[0], theirs[0]) <= TOLERANCE:
        nearest = torch.cdist(ours[0].flatten(1).double(), theirs[0].flatten(1).double(), p=torch.inf).argmin(dim=1)
        theirs = [tensor[nearest] for tensor in theirs]
    return Difference({name: _largest(a, b) for name, a, b in zip(network.outputs, ours, theirs)}, number)


def _largest(expected: Tensor, found: Tensor) -> float:
    """Return the largest difference relative to max(1, |value|); infinite for NaN in one of them only."""
    if not expected.numel():
        return 0.0
    relative = (expected - found).abs() / expected.abs().clamp(min=1)
    both = expected.isnan() & found.isnan()
    return float(torch.where(both, 0.0, relative.nan_to_num(torch.inf)).max())
