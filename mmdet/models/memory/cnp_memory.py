"""The memory of the conditional neural process (paper section 3.2).

Called by the dense head with the class features of all levels. For each level in turn, every location addresses the
memory, writes its feature and box (in training only) and reads a context for the class and box branches.

Symbols: B images, C feature channels, h_l×w_l the map of level l, N_l = B·h_l·w_l its locations n with features c_n,
M units u_k = (feature part, C; box part, 4), s_nk similarities, y_n the encoded box that location n writes.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModule
from timm.layers import Mlp
from torch import Tensor, nn

from mmdet.arguments import checked_count, checked_flag, checked_number, checked_positive, checked_settings
from mmdet.errors import UserError
from mmdet.models.task_modules.points import bbox2distance
from mmdet.ops.device import call_outside_graphs, device_constant
from mmdet.registry import MODELS

UPDATE_MODES = ('top1', 'topk', 'all')
WRITE_TARGETS = ('published', 'inside')
DECAYS = ('all', 'counted')
INITS = ('normal', 'kmeans')

# ---------------------------------------------------------------------------------------------------------------------
# Write targets y_n


def write_targets(points: Tensor, gt_bboxes: Tensor, gt_valid: Tensor, size: tuple[int, int],
                  choice: str = 'published') -> tuple[Tensor, Tensor]:
    """Select a ground-truth box g for each location and encode it: y_n = 2·((l, t, r, b)_n,g / (W, H, W, H) − ½).

    ``'published'``: the first box that does not contain the location strictly or, if all contain it, the smallest;
    every location of an image with ground truth is written. ``'inside'``: the smallest box that contains it; only those
    locations are written.

    Args:
        points: (n, 2) x, y in pixels.
        gt_bboxes: (B, G, 4) in pixels.
        gt_valid: (B, G) bool, False for padding.
        size: (H, W) of the padded input.
        choice: ``'published'`` or ``'inside'``.

    Returns:
        ``(targets, written)``: (B, n, 4) float and (B, n) bool.

    Raises:
        UserError: if ``choice`` is unknown.
    """
    if choice not in WRITE_TARGETS:
        raise UserError(f'write_target={choice!r} is unknown; use one of {WRITE_TARGETS}')
    batch, num_gt = gt_valid.shape
    if num_gt == 0:
        return points.new_zeros(batch, len(points), 4), gt_valid.new_zeros(batch, len(points))
    distances = bbox2distance(points, gt_bboxes)  # (B, n, G, 4)
    valid = gt_valid[:, None]  # (B, 1, G)
    inside = (distances > 0).all(dim=-1) & valid
    area = (gt_bboxes[..., 2:] - gt_bboxes[..., :2]).prod(dim=-1)[:, None]  # (B, 1, G)
    smallest = area.expand(inside.shape).masked_fill(~inside, torch.inf).argmin(dim=-1)  # (B, n)
    if choice == 'inside':
        chosen, written = smallest, inside.any(dim=-1)
    else:
        outside = ~inside & valid
        # argmax of a 0/1 tensor returns the first 1
        chosen = torch.where(outside.any(dim=-1), outside.to(torch.uint8).argmax(dim=-1), smallest)
        written = gt_valid.any(dim=1, keepdim=True).expand(chosen.shape)
    picked = distances.gather(2, chosen[..., None, None].expand(-1, -1, 1, 4)).squeeze(2)  # (B, n, 4)
    height, width = size
    return 2 * (picked / device_constant((width, height) * 2, picked.device) - 0.5), written


# ---------------------------------------------------------------------------------------------------------------------
# Formulas


def address(directions: Tensor, units: Tensor) -> Tensor:
    """Compute the similarities s_nk = cos(c_n, feature part of u_k).

    Args:
        directions: (N, C) normalised features c_n / ‖c_n‖.
        units: (M, C + 4).

    Returns:
        (N, M) in [−1, 1].
    """
    return directions @ F.normalize(units[:, :directions.shape[1]], dim=1).T


def write_weights(similarity: Tensor, mode: str) -> Tensor:
    """Compute the weights a_nk (N, M) with which location n is written to unit k; rows sum to 1.

    ``'top1'``: 1 for the most similar unit, argmax_k s_nk; ``'topk'``: softmax over the M/10 most similar units;
    ``'all'``: softmax over all units.
    """
    if mode == 'top1':
        return torch.zeros_like(similarity).scatter_(1, similarity.argmax(dim=1, keepdim=True), 1.0)
    if mode == 'topk':
        best, index = similarity.topk(max(similarity.shape[1] // 10, 1), dim=1)
        return torch.zeros_like(similarity).scatter_(1, index, best.softmax(dim=1))
    return similarity.softmax(dim=1)


def read_weights(similarity: Tensor, temperature: float = 1.0) -> Tensor:
    """Compute the weights a_nk = softmax_k(s_n / T), (N, M), with which location n reads unit k; rows sum to 1.

    Cosines are in [−1, 1], so at T = 1 the largest weight is at most e² times the smallest; a smaller T reads fewer
    units.
    """
    return (similarity if temperature == 1 else similarity / temperature).softmax(dim=1)


def write(units: Tensor, weights: Tensor, values: Tensor, momentum: float, decay: str = 'all') -> Tensor:
    """Compute the units after one write.

    n_k = Σ_n a_nk is the count of a unit and mean_k = Σ_n a_nk·v_n / (n_k + 1e-6) the mean of what is written to it::

        decay='all'      u_k ← m·u_k + (1 − m)·mean_k
        decay='counted'  u_k ← m_k·u_k + (1 − m_k)·mean_k with m_k = 1 − (1 − m)·min(n_k, 1)

    With ``'all'``, units to which no location writes (n_k = 0) decay towards 0. With ``'counted'`` they do not change,
    units with a count of at least 1 are written as with ``'all'``, and units between in proportion to their count. Sums
    are over the locations of all processes, so that the memories of all processes stay equal.

    Args:
        units: (M, C + 4).
        weights: a, (N, M); rows of locations that are not written are 0.
        values: v_n = (c_n, y_n), (N, C + 4).
        momentum: m.
        decay: ``'all'`` or ``'counted'``.

    Returns:
        (M, C + 4).
    """
    total = weighted_sums(weights, values)
    if get_world_size() > 1:
        call_outside_graphs(all_reduce, total)
    return move(units, total, momentum, decay)


def weighted_sums(weights: Tensor, values: Tensor) -> Tensor:
    """Compute Σ_n a_nk·v_n and, in the last column, the counts Σ_n a_nk: (M, C + 5), for :func:`move`."""
    # one tensor, so that a single reduction over processes suffices
    return weights.T @ torch.cat([values, values.new_ones(len(values), 1)], dim=1)


def move(units: Tensor, sums: Tensor, momentum: float, decay: str) -> Tensor:
    """Compute the units (M, C + 4) after a write of :func:`weighted_sums`, see :func:`write`."""
    counts = sums[:, -1:]
    mean = sums[:, :-1] / (counts + 1e-6)
    if decay == 'all':
        return momentum * units + (1 - momentum) * mean
    kept = 1 - (1 - momentum) * counts.clamp(max=1)  # m_k: (M, 1)
    return kept * units + (1 - kept) * mean


@dataclass
class OnlineMemory:
    """Settings of a memory with units of its own for each video in testing; the paper's units are frozen there.

    A video begins with the trained units. After each frame, the features and boxes of its confident detections are
    written; the next frame reads the result.

    Attributes:
        score_thr: detections with a score above this are written.
        momentum: weight of the old unit in a write.
    """

    score_thr: float = 0.3
    momentum: float = 0.9

    @classmethod
    def of(cls, settings: dict) -> OnlineMemory:
        """Create the settings from a config. Raises UserError for unknown keys and for values outside of [0, 1]."""
        names = [field.name for field in fields(cls)]
        for name, value in checked_settings('CNPMemory online_memory', settings, names).items():
            checked_number(f'CNPMemory online_memory.{name}', value, 0, 1)
        return cls(**settings)


@MODELS.register_module()
class CNPMemory(BaseModule):
    """M learned units, addressed by features, written by exponential moving average, read by softmax attention.

    Example: a location with feature (3, 4) has the cosine similarities 0.6 and 0.8 with the feature parts of two units.
    It is written to the second unit, which with momentum ½ moves halfway to (3, 4, y); the first unit decays by half::

        >>> memory = CNPMemory(channels=2, num_units=2, momentum=0.5)
        >>> units = memory.feat_units.weight.data
        >>> _ = units.copy_(torch.tensor([[1., 0, 0, 0, 0, 0], [0, 1., 0, 0, 0, 0]]))
        >>> feat = torch.tensor([3., 4.]).view(1, 2, 1, 1)
        >>> y = torch.tensor([[[0.2, 0.4, 0.6, 0.8]]])
        >>> context, = memory([feat], y, torch.ones(1, 1, dtype=torch.bool))
        >>> units
        tensor([[0.5000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000],
                [1.5000, 2.5000, 0.1000, 0.2000, 0.3000, 0.4000]])

    The context is the MLP of the mean of the units' directions, weighted by softmax(0.6, 0.8)::

        >>> weights = torch.tensor([0.6, 0.8]).softmax(dim=0)
        >>> expected = memory.mlp(weights @ torch.nn.functional.normalize(units, dim=1))
        >>> torch.allclose(context.flatten(), expected, atol=1e-6)
        True

    Args:
        channels: C, channels of the features and of the context.
        num_units: M.
        momentum: m, the weight of the old unit in a write.
        update_mode: see :func:`write_weights`.
        read_temperature: T, above 0, see :func:`read_weights`; published 1.
        decay: whether units to which nothing is written decay, see :func:`write`; published ``'all'``.
        per_level: whether each level of the pyramid has M units of its own; published False: all levels share them.
        num_levels: number of levels, read only if ``per_level``.
        init_units: ``'normal'``: N(0, 1), as published; ``'kmeans'``: before the first step of a training,
            :class:`mmdet.engine.MemoryInitHook` sets the units to clusters of what would be written to them. A buffer
            ``initialized`` records that this was done; weights without it count as initialised.
        online_memory: settings of :class:`OnlineMemory`, with which each video has units of its own in testing; None:
            all videos read the trained units, as published.

    Raises:
        UserError: an argument has no valid value.
    """

    keep_float32 = True  # also in half-precision testing
    initialized: Tensor | None

    def __init__(self, channels: int = 256, num_units: int = 128, momentum: float = 0.999, update_mode: str = 'top1',
                 read_temperature: float = 1.0, decay: str = 'all', per_level: bool = False, num_levels: int = 1,
                 init_units: str = 'normal', online_memory: dict | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        for name, value, known in (('update_mode', update_mode, UPDATE_MODES), ('decay', decay, DECAYS),
                                   ('init_units', init_units, INITS)):
            if value not in known:
                raise UserError(f'CNPMemory {name}={value!r} is unknown; use one of {known}')
        checked_count('CNPMemory num_units', num_units, least=1)
        checked_number('CNPMemory momentum', momentum, 0, 1)
        checked_positive('CNPMemory read_temperature', read_temperature)
        self.momentum, self.update_mode, self.read_temperature = momentum, update_mode, read_temperature
        self.online = None if online_memory is None else OnlineMemory.of(online_memory)
        self.decay, self.num_units = decay, num_units
        self.num_sets = num_levels if checked_flag('CNPMemory per_level', per_level) else 1
        self.feat_units = nn.Embedding(self.num_sets * num_units, channels + 4)  # N(0, 1), the sets in order
        self.mlp = Mlp(channels + 4, channels, channels)
        self.register_buffer('initialized', torch.tensor(False) if init_units == 'kmeans' else None)

    @property
    def needs_values(self) -> bool:
        """Whether the units are still to be set, before the first step of a training."""
        return self.initialized is not None and not bool(self.initialized)

    def convert_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return weights of a memory with either value of ``init_units`` as weights of this one."""
        found = weights.get('initialized', torch.tensor(True))
        others = {name: value for name, value in weights.items() if name != 'initialized'}
        return others if self.initialized is None or not others else {**others, 'initialized': found}

    def forward(self, feats: Sequence[Tensor], targets: Tensor | None = None, written: Tensor | None = None,
                units: Tensor | None = None) -> list[Tensor]:
        """Read the contexts of all locations; given targets (in training), each level is written before it is read.

        The similarities of a level are computed with the units before its write, its context with the units after it.
        Gradients flow to the units and the MLP, not to ``feats``. Always computed in float32.

        Args:
            feats: levels (B, C, h_l, w_l).
            targets: y, (B, Σ h_l·w_l, 4), see :func:`write_targets`; None: nothing is written, nor if the units are
                frozen (``requires_grad`` is False).
            written: (B, Σ h_l·w_l) bool, whether a location is written.
            units: (S, M, C + 4), read instead of the trained units, see :meth:`write_online`.

        Returns:
            The contexts of each level (B, C, h_l, w_l).
        """
        with torch.autocast(feats[0].device.type, enabled=False):
            rows = [feat.detach().flatten(2).transpose(1, 2).flatten(0, 1) for feat in feats]  # (N_l, C)
            lengths = [level.shape[0] for level in rows]  # len() would fix the size in an export
            features = torch.cat(rows).float()  # converted last: half the bytes are concatenated
            directions = F.normalize(features, dim=1)
            parameter = unit_sets(self) if units is None else units  # (S, M, C + 4)
            sets = list(parameter.detach())
            if targets is None or written is None or not self.feat_units.weight.requires_grad:
                similarity = _rows_by_level(address, directions, lengths, sets)
                read = parameter
            else:
                counts = [feat.shape[2] * feat.shape[3] for feat in feats]
                similarities, after = [], []
                writes = zip(features.split(lengths), directions.split(lengths), targets.split(counts, dim=1),
                             written.split(counts, dim=1))
                for level, (feature, direction, target, chosen) in enumerate(writes):
                    before = sets[level % len(sets)]
                    similarities.append(address(direction, before))  # s
                    weights = write_weights(similarities[-1], self.update_mode) * chosen.reshape(-1, 1)  # a
                    values = torch.cat([feature, target.reshape(-1, 4)], dim=1)  # v
                    updated = write(before, weights, values, self.momentum, self.decay)
                    # a write that results in NaN or Inf is skipped, so that training can skip such a batch
                    after.append(torch.where(updated.isfinite().all(), updated, before))
                    sets[level % len(sets)] = after[-1]
                # the difference is 0, but has the parameter's gradient: the new values are differentiable in it
                read = torch.stack(after) + (parameter - parameter.detach())[:len(feats)]  # (levels, M, C + 4)
                similarity = torch.cat(similarities)
                self.feat_units.weight.data.copy_(torch.cat(sets))  # without autograd
            # context_n = mlp(Σ_k softmax_k(s_n / T)·u_k/‖u_k‖). The first layer, without its bias, is linear and
            # applied before the sum: to M units instead of N locations.
            table = F.normalize(read, dim=-1) @ self.mlp.fc1.weight.T  # (levels or 1, M, C)
            attention = read_weights(similarity, self.read_temperature)
            hidden = _rows_by_level(partial(torch.addmm, self.mlp.fc1.bias), attention, lengths, table)
            contexts = self.mlp.fc2(self.mlp.act(hidden)).split(lengths)  # (N_l, C) each
            return [context.unflatten(0, (feat.shape[0], -1)).transpose(1, 2).reshape(feat.shape)
                    for context, feat in zip(contexts, feats)]

    def write_online(self, units: Tensor, values: Tensor, levels: Tensor, scores: Tensor) -> Tensor:
        """Compute the units of a video after a frame: those of confident detections are written.

        As :func:`write` with ``decay='counted'`` and the momentum of :class:`OnlineMemory`, in this process only. A
        write that results in NaN or Inf is skipped.

        Args:
            units: (S, M, C + 4) of the video.
            values: (D, C + 4) features and encoded boxes of the detections.
            levels: (D,) levels of their locations.
            scores: (D,).

        Returns:
            (S, M, C + 4).
        """
        assert self.online is not None
        confident = scores > self.online.score_thr
        directions = F.normalize(values[:, :-4], dim=1)
        after = []
        for index, before in enumerate(units):
            chosen = confident & (levels % len(units) == index)
            weights = write_weights(address(directions, before), self.update_mode) * chosen[:, None]
            updated = move(before, weighted_sums(weights, values), self.online.momentum, 'counted')
            after.append(torch.where(updated.isfinite().all(), updated, before))
        return torch.stack(after)


def _rows_by_level(function: Callable[[Tensor, Tensor], Tensor], rows: Tensor, lengths: Sequence[int],
                   sets: Sequence[Tensor] | Tensor) -> Tensor:
    """Apply ``function(rows of level l, set l mod S)`` to each level of (N, ...), at once if all share one set."""
    if len(sets) == 1:
        return function(rows, sets[0])
    return torch.cat([function(part, sets[level % len(sets)]) for level, part in enumerate(rows.split(lengths))])


def unit_sets(memory: CNPMemory) -> Tensor:
    """Return the units as a view (S, M, C + 4) of the parameter; level l reads and writes set l mod S.

    S = 1 if all levels share the units, else the number of levels.
    """
    return memory.feat_units.weight.unflatten(0, (-1, memory.num_units))
