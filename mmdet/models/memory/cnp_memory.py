"""The memory of the conditional neural process: the paper's heart (section 3.2).

The dense head addresses it at every location of a level, writes what it saw there (training only) and reads back a
context that its class and box branches use.

Symbols: B images, C feature channels, h×w the level's map, N = B·h·w locations, M units. A unit is a row
u_k = (feature part, C; box part, 4).
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from mmengine.model import BaseModule
from timm.layers import Mlp
from torch import Tensor, nn

from mmdet.errors import UserError
from mmdet.registry import MODELS

UPDATE_MODES = ('top1', 'topk', 'all')


def address(features: Tensor, units: Tensor) -> Tensor:
    """Cosine of every location's feature and every unit's feature part: (N, C), (M, C + 4) → (N, M) in [−1, 1]."""
    return F.normalize(features, dim=1) @ F.normalize(units[:, :features.shape[1]], dim=1).T


def write_weights(similarity: Tensor, mode: str) -> Tensor:
    """How much each location counts for each unit: (N, M), rows sum to 1.

    ``'top1'``: its best unit only; ``'topk'``: softmax over its best M/10 units; ``'all'``: softmax over all.
    """
    if mode == 'top1':
        return F.one_hot(similarity.argmax(dim=1), similarity.shape[1]).to(similarity.dtype)
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
        """Read the context of every location; in training write first.

        Addresses come from the units before the write, the context from the units after it. Gradients reach units and
        MLP, not ``feat``. Always float32.

        Args:
            feat: (B, C, h, w).
            targets: (B, h·w, 4) box part of what is written, or None: nothing is written.
            written: (B, h·w) bool, the locations that are written.

        Returns:
            (B, C, h, w) context.
        """
        with torch.autocast(feat.device.type, enabled=False):
            return self._write_and_read(feat, targets, written)

    def _write_and_read(self, feat: Tensor, targets: Tensor | None, written: Tensor | None) -> Tensor:
        shape = feat.shape
        features = feat.detach().float().flatten(2).transpose(1, 2).flatten(0, 1)  # (N, C)
        units = self.feat_units.weight
        similarity = address(features, units.detach())  # (N, M)
        if targets is not None:
            weights = write_weights(similarity, self.update_mode) * written.reshape(-1, 1)
            values = torch.cat([features, targets.reshape(-1, 4)], dim=1)
            updated = write(units.detach(), weights, values, self.momentum)
            # a batch that gives no numbers leaves no trace, so that a training can step over it
            updated = torch.where(updated.isfinite().all(), updated, units.detach())
            # the gradient goes to the parameter as if it held the new values; autograd keeps no reference to the old
            units = units + (updated - units.detach())
            self.feat_units.weight.data.copy_(updated)
        context = self._read(similarity, units)
        return context.unflatten(0, (shape[0], -1)).transpose(1, 2).reshape(shape)

    def _read(self, similarity: Tensor, units: Tensor) -> Tensor:
        """mlp(Σ_k softmax_k(s_n)·u_k/‖u_k‖): (N, M) → (N, C). The first layer is applied to M units, not N places."""
        table = F.normalize(units, dim=1) @ self.mlp.fc1.weight.T  # (M, C)
        hidden = similarity.softmax(dim=1) @ table + self.mlp.fc1.bias
        return self.mlp.fc2(self.mlp.act(hidden))
