"""Statistics of the reads of a memory: use of its units, entropy of the read weights, variation and size of contexts.

:func:`mmdet.apis.memory_report.report_memory` attaches them to a :class:`CNPMemory` as a forward hook.

Symbols: B images, C channels, h×w the map of a level, n its h·w locations, M units, s_nk similarities, a_nk read
weights.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.models.memory.cnp_memory import CNPMemory, address, read_weights, unit_sets


@dataclass
class LevelMaps:
    """Maps of one level of one image, on the CPU.

    Attributes:
        winner: (h, w) int64, the unit with the largest weight.
        perplexity: (h, w) exp of the entropy of a_n, from 1 (a single unit is read) to M (all with equal weights).
        context, feature: (h, w) distance from the image's mean context (feature), relative to the norm of that mean.
    """

    winner: Tensor
    perplexity: Tensor
    context: Tensor
    feature: Tensor


@dataclass
class LevelStatistics:
    """Sums over all images.

    Attributes:
        images, locations: number of images and of locations.
        wins: (M,) number of locations for which a unit has the largest weight; training would write them to it.
        weights: (M,) sums of a_nk over locations.
        perplexities: sum over locations.
        spreads: sum of max_k s_nk - min_k s_nk over locations.
        context_variation, feature_variation: sums over images of :func:`variation`.
        context_size: sum over images of the norm of all contexts relative to that of all features.
    """

    images: int
    locations: int
    wins: Tensor
    weights: Tensor
    perplexities: float = 0.
    spreads: float = 0.
    context_variation: float = 0.
    feature_variation: float = 0.
    context_size: float = 0.

    def summary(self) -> dict[str, float]:
        """Return averages by name.

        ``units_used``: number of units with the largest weight for some location. ``effective_units``: exp of the
        entropy of the distribution of wins. ``read_units``: mean perplexity of the read weights.
        ``similarity_spread``: mean difference between the largest and the smallest cosine similarity.
        ``context_variation``, ``feature_variation``: means of :func:`variation`. ``context_size``: mean over images of
        (Σ_n ‖context‖² / Σ_n ‖feature‖²)^½.
        """
        return dict(
            units_used=int((self.wins > 0).sum()), effective_units=float(perplexity(self.wins / self.wins.sum())),
            read_units=self.perplexities / self.locations, similarity_spread=self.spreads / self.locations,
            context_variation=self.context_variation / self.images,
            feature_variation=self.feature_variation / self.images, context_size=self.context_size / self.images)


@dataclass
class ReadStatistics:
    """Forward hook of a memory: ``memory.register_forward_hook(statistics)``.

    Attributes:
        keep_maps: number of images, from the first on, whose maps are kept.
        levels: statistics of each level.
        maps: maps of each level of each of these images.
    """

    keep_maps: int = 0
    levels: list[LevelStatistics] = field(default_factory=list)
    maps: list[list[LevelMaps]] = field(default_factory=list)

    @torch.no_grad()
    def __call__(self, memory: CNPMemory, inputs: tuple[Any, ...], contexts: Sequence[Tensor]) -> None:
        """Add the reads of a test batch; shapes as in ``CNPMemory.forward``."""
        features: Sequence[Tensor] = inputs[0]
        sets = unit_sets(memory).detach()
        found = []
        for level, (feature, context) in enumerate(zip(features, contexts)):
            units = sets[level % len(sets)]
            if level == len(self.levels):
                zeros = torch.zeros(len(units), dtype=torch.float64)
                self.levels.append(LevelStatistics(0, 0, zeros, zeros.clone()))
            found.append([self._add(self.levels[level], units, memory.read_temperature, *image)
                          for image in zip(feature, context)])
        kept = list(zip(*found))[:self.keep_maps - len(self.maps)]
        self.maps += [list(levels) for levels in kept]

    def _add(self, level: LevelStatistics, units: Tensor, temperature: float, feature: Tensor,
             context: Tensor) -> LevelMaps:
        """Add one image with ``feature`` and ``context`` (C, h, w)."""
        rows, read = (maps.float().flatten(1).T for maps in (feature, context))  # (n, C)
        similarity = address(F.normalize(rows, dim=1), units)  # (n, M)
        weights = read_weights(similarity, temperature)
        winner, perplexities = weights.argmax(dim=1), perplexity(weights)
        level.images += 1
        level.locations += len(rows)
        level.wins += winner.bincount(minlength=len(units)).cpu()
        level.weights += weights.sum(dim=0).cpu()
        level.perplexities += float(perplexities.sum())
        level.spreads += float((similarity.amax(dim=1) - similarity.amin(dim=1)).sum())
        level.context_variation += variation(read)
        level.feature_variation += variation(rows)
        level.context_size += float(read.norm() / rows.norm().clamp(min=1e-12))
        return LevelMaps(*(values.reshape(feature.shape[1:]).cpu() for values in (
            winner, perplexities, _deviation(read), _deviation(rows))))


def perplexity(weights: Tensor) -> Tensor:
    """Compute exp of the entropy, (...) in [1, M], of weights (..., M) that sum to 1."""
    return torch.special.entr(weights).sum(dim=-1).exp()


def variation(rows: Tensor) -> float:
    """Compute the relative variation Σ_n ‖x_n - mean‖² / Σ_n ‖x_n‖² of vectors (n, C).

    It is 0 if all vectors are equal, 1 if their mean is 0, and 0 if all are 0.
    """
    power = float(rows.square().sum())
    return float((rows - rows.mean(dim=0)).square().sum()) / power if power else 0.


def _deviation(rows: Tensor) -> Tensor:
    """Compute the distance (n,) of each vector from the mean, relative to the mean's norm."""
    mean = rows.mean(dim=0)
    return (rows - mean).norm(dim=1) / mean.norm().clamp(min=1e-12)
