"""The memory of the conditional neural process: the paper's heart (section 3.2).

The dense head addresses it at every location of a level, writes what it saw there (training only) and reads back a
context that its class and box branches use.

Symbols: B images, C feature channels, h×w the level's map, N = B·h·w locations, M units. A unit is a row
u_k = (feature part, C; box part, 4).
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from mmengine.model import BaseModule
from timm.layers import Mlp
from torch import Tensor, nn

from mmdet.errors import UserError
from mmdet.registry import MODELS

UPDATE_MODES = ('top1', 'topk', 'all')


def address(directions: Tensor, units: Tensor) -> Tensor:
    """Cosine of every location's feature and every unit's feature part: (N, C), (M, C + 4) → (N, M) in [−1, 1].

    Args:
        directions: the locations' features, of length 1.
    """
    return directions @ F.normalize(units[:, :directions.shape[1]], dim=1).T


def write_weights(similarity: Tensor, mode: str) -> Tensor:
    """How much each location counts for each unit: (N, M), rows sum to 1.

    ``'top1'``: its best unit only; ``'topk'``: softmax over its best M/10 units; ``'all'``: softmax over all.
    """
    if mode == 'top1':
        return torch.zeros_like(similarity).scatter_(1, similarity.argmax(dim=1, keepdim=True), 1.0)
    if mode == 'topk':
        best, index = similarity.topk(max(similarity.shape[1] // 10, 1), dim=1)
        return torch.zeros_like(similarity).scatter_(1, index, best.softmax(dim=1))
    return similarity.softmax(dim=1)


def write(units: Tensor, weights: Tensor, values: Tensor, momentum: float) -> Tensor:
    """The units after one write: momentum·u + (1 − momentum)·(weighted mean of the values that chose the unit).

    Units that nothing chose decay. Counts and sums are added up over all processes first, so that all hold one memory.

    Args:
        units: (M, C + 4). weights: (N, M), zero rows for locations that write nothing. values: (N, C + 4).
    """
    # counts ride along as one more column: a single reduction over processes
    total = weights.T @ torch.cat([values, values.new_ones(len(values), 1)], dim=1)  # (M, C + 5)
    all_reduce(total)
    mean = total[:, :-1] / (total[:, -1:] + 1e-6)
    return momentum * units + (1 - momentum) * mean


@MODELS.register_module()
class CNPMemory(BaseModule):
    """M learned units, addressed by features, written by exponential moving average, read by softmax attention.

    Args:
        channels: C, of the features and of the context.
        num_units: M.
        momentum: share of the old unit that a write keeps.
        update_mode: see :func:`write_weights`.
    """

    keep_float32 = True  # also in half-precision testing

    def __init__(self, channels: int = 256, num_units: int = 128, momentum: float = 0.999, update_mode: str = 'top1',
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if update_mode not in UPDATE_MODES:
            raise UserError(f'CNPMemory update_mode={update_mode!r} is unknown; use one of {UPDATE_MODES}')
        self.momentum, self.update_mode = momentum, update_mode
        self.feat_units = nn.Embedding(num_units, channels + 4)  # N(0, 1)
        self.mlp = Mlp(channels + 4, channels, channels)

    def forward(self, feat: Tensor, targets: Tensor | None = None, written: Tensor | None = None) -> Tensor:
        """Read the context of every location of one level; in training write first. See :meth:`read_levels`.

        Args:
            feat: (B, C, h, w).
            targets: (B, h·w, 4) box part of what is written, or None: nothing is written.
            written: (B, h·w) bool, the locations that are written.

        Returns:
            (B, C, h, w) context.
        """
        units, context = self.read_levels(targets, written, feat)
        if targets is not None:
            self.store(units)
        return context

    def read_levels(self, targets: Tensor | None, written: Tensor | None, *feats: Tensor) -> tuple[Tensor, ...]:
        """Read the contexts of all locations, level by level; in training each level writes before it reads.

        A level's addresses come from the units before its write, its context from the units after it. Gradients reach
        units and MLP, not ``feats``. Always float32. The parameter itself stays as it is, see :meth:`store`.

        Args:
            targets: (B, N, 4) box part of what the locations of all levels write, or None: nothing is written.
            written: (B, N) bool, the locations that are written.
            feats: levels (B, C, h_l, w_l).

        Returns:
            The units (M, C + 4) after all writes, without gradient, and each level's contexts (B, C, h_l, w_l).
        """
        with torch.autocast(feats[0].device.type, enabled=False):
            return self._read_levels(targets, written, feats)

    def store(self, units: Tensor) -> None:
        """Make the units (M, C + 4) of :meth:`read_levels` the memory's. Autograd does not notice."""
        self.feat_units.weight.data.copy_(units)

    def _read_levels(self, targets: Tensor | None, written: Tensor | None,
                     feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        counts = [feat.shape[2] * feat.shape[3] for feat in feats]
        rows = [feat.detach().float().flatten(2).transpose(1, 2).flatten(0, 1) for feat in feats]  # (B·h_l·w_l, C)
        before = self.feat_units.weight.detach()
        directions = F.normalize(torch.cat(rows), dim=1).split([len(level) for level in rows])
        units, similarities = [before], []
        if targets is None:
            similarities = [address(direction, before) for direction in directions]
            table = self._table(self.feat_units.weight)[None].expand(len(feats), -1, -1)
        else:
            writes = zip(rows, directions, targets.split(counts, dim=1), written.split(counts, dim=1))
            for level, direction, target, chosen in writes:
                similarities.append(address(direction, units[-1]))
                weights = write_weights(similarities[-1], self.update_mode) * chosen.reshape(-1, 1)
                updated = write(units[-1], weights, torch.cat([level, target.reshape(-1, 4)], dim=1), self.momentum)
                # a batch that gives no numbers leaves no trace, so that a training can step over it
                units.append(torch.where(updated.isfinite().all(), updated, units[-1]))
            # the gradient goes to the parameter as if it held the new values
            table = self._table(torch.stack(units[1:]) + (self.feat_units.weight - before))
        read = torch.cat(similarities).softmax(dim=1).split([len(level) for level in rows])
        hidden = torch.cat([weights @ values for weights, values in zip(read, table)]) + self.mlp.fc1.bias
        contexts = self.mlp.fc2(self.mlp.act(hidden)).split([len(level) for level in rows])
        maps = [context.unflatten(0, (feat.shape[0], -1)).transpose(1, 2).reshape(feat.shape)
                for context, feat in zip(contexts, feats)]
        return units[-1], *maps

    def _table(self, units: Tensor) -> Tensor:
        """The MLP's first layer, without bias, of the units' directions: (..., M, C + 4) → (..., M, C).

        It is applied to M units, not N places: mlp(Σ_k softmax_k(s_n)·u_k/‖u_k‖) is read at N places.
        """
        return F.normalize(units, dim=-1) @ self.mlp.fc1.weight.T
