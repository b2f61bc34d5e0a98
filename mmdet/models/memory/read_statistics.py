"""What a memory's reads look like: use of the units, entropy of the reads, variation of the contexts.

:func:`mmdet.apis.memory_report.report_memory` attaches them to a :class:`CNPMemory` as a forward hook.

Symbols: B images, C channels, h×w the map of a level, n its h·w locations, M units, a_nk read weights.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.models.memory.cnp_memory import CNPMemory, address, read_weights


@dataclass
class LevelMaps:
    """One level of one image, on the CPU.

    Attributes:
        winner: (h, w) int64, the unit of the largest weight.
        perplexity: (h, w) exp of the entropy of a_n, from 1 (one unit is read) to M (the mean of all is).
        context, feature: (h, w) distance from the image's mean context (feature) over that mean's length.
    """

    winner: Tensor
    perplexity: Tensor
    context: Tensor
    feature: Tensor


@dataclass
class LevelStatistics:
    """Sums over the images seen.

    Attributes:
        images, locations: numbers of each.
        wins: (M,) locations of which each unit has the largest weight; training would write them to it.
        weights: (M,) sums of a_nk over locations.
        perplexities: sum over locations. spreads: sum of max_k s_nk - min_k s_nk.
        context_variation, feature_variation: sums over images of :func:`variation`.
    """

    images: int
    locations: int
    wins: Tensor
    weights: Tensor
    perplexities: float = 0.
    spreads: float = 0.
    context_variation: float = 0.
    feature_variation: float = 0.

    def summary(self) -> dict[str, float]:
        """Means, by name.

        ``units_used``: units that win somewhere. ``effective_units``: exp of the entropy of the wins. ``read_units``:
        mean perplexity of a read. ``similarity_spread``: mean difference of the largest and the smallest cosine.
        ``context_variation``, ``feature_variation``: see :func:`variation`.
        """
        return dict(
            units_used=int((self.wins > 0).sum()), effective_units=float(perplexity(self.wins / self.wins.sum())),
            read_units=self.perplexities / self.locations, similarity_spread=self.spreads / self.locations,
            context_variation=self.context_variation / self.images,
            feature_variation=self.feature_variation / self.images)


@dataclass
class ReadStatistics:
    """Forward hook of a memory: ``memory.register_forward_hook(statistics)``.

    Attributes:
        keep_maps: images whose maps are kept, the first ones.
        levels: statistics of each level.
        maps: of each of these images the maps of its levels.
    """

    keep_maps: int = 0
    levels: list[LevelStatistics] = field(default_factory=list)
    maps: list[list[LevelMaps]] = field(default_factory=list)

    @torch.no_grad()
    def __call__(self, memory: CNPMemory, inputs: tuple[Any, ...], contexts: Sequence[Tensor]) -> None:
        """Add the reads of a batch in testing; shapes as in ``CNPMemory.forward``."""
        features: Sequence[Tensor] = inputs[0]
        units = memory.feat_units.weight.detach()
        found = []
        for level, (feature, context) in enumerate(zip(features, contexts)):
            if level == len(self.levels):
                zeros = torch.zeros(len(units), dtype=torch.float64)
                self.levels.append(LevelStatistics(0, 0, zeros, zeros.clone()))
            found.append([self._add(self.levels[level], units, *image) for image in zip(feature, context)])
        kept = list(zip(*found))[:self.keep_maps - len(self.maps)]
        self.maps += [list(levels) for levels in kept]

    def _add(self, level: LevelStatistics, units: Tensor, feature: Tensor, context: Tensor) -> LevelMaps:
        """One image: feature and context (C, h, w)."""
        rows, read = (maps.float().flatten(1).T for maps in (feature, context))  # (n, C)
        similarity = address(F.normalize(rows, dim=1), units)  # (n, M)
        weights = read_weights(similarity)
        winner, perplexities = weights.argmax(dim=1), perplexity(weights)
        level.images += 1
        level.locations += len(rows)
        level.wins += winner.bincount(minlength=len(units)).cpu()
        level.weights += weights.sum(dim=0).cpu()
        level.perplexities += float(perplexities.sum())
        level.spreads += float((similarity.amax(dim=1) - similarity.amin(dim=1)).sum())
        level.context_variation += variation(read)
        level.feature_variation += variation(rows)
        return LevelMaps(*(values.reshape(feature.shape[1:]).cpu() for values in (
            winner, perplexities, _deviation(read), _deviation(rows))))


def perplexity(weights: Tensor) -> Tensor:
    """Compute exp of the entropy of (..., M) weights that sum to 1: (...) from 1 to M."""
    return torch.special.entr(weights).sum(dim=-1).exp()


def variation(rows: Tensor) -> float:
    """Compute how much of vectors (n, C) is not their mean: Σ_n ‖x_n - mean‖² / Σ_n ‖x_n‖².

    From 0 (all alike) to 1 (their mean is 0); 0 if all are 0.
    """
    power = float(rows.square().sum())
    return float((rows - rows.mean(dim=0)).square().sum()) / power if power else 0.


def _deviation(rows: Tensor) -> Tensor:
    """(n,) distance from the mean, relative to its length."""
    mean = rows.mean(dim=0)
    return (rows - mean).norm(dim=1) / mean.norm().clamp(min=1e-12)
