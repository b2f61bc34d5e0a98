"""Warm-up and polynomial decay of the learning rate, with a curve of its own for each part of a model.

Built by the runner from ``param_scheduler``.
"""
from __future__ import annotations

from typing import Any

from mmengine.optim import _ParamScheduler
from torch.optim import Optimizer

from mmdet.errors import UserError
from mmdet.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class WarmupPolyLR(_ParamScheduler):
    """0 for ``delay`` steps, linear up to the full rate for ``warmup`` steps, then (1 − (s − w) / (end − w))^power.

    That is the share of the full rate; s counts steps from 0, w = delay + warmup. Only groups with the given ``part``
    change, so that several of these give each part its own curve
    (:class:`mmdet.engine.layer_decay.LayerDecayConstructor` makes such groups).

    Args:
        optimizer: or its wrapper.
        end: steps of the training; the rate stays at its last value if there are more.
        warmup, delay: steps.
        power: of the decay.
        part: of the groups; None: all groups.
        last_step, by_epoch, verbose: see mmengine; steps are iterations.

    Raises:
        UserError: the training ends within the warm-up, or no group has the part.
    """

    def __init__(self, optimizer: Optimizer, end: int, warmup: int, delay: int = 0, power: float = 0.9,
                 part: str | None = None, by_epoch: bool = False, last_step: int = -1, verbose: bool = False) -> None:
        if by_epoch:
            raise UserError('WarmupPolyLR counts iterations: set by_epoch=False')
        if min(warmup, delay) < 0 or delay + warmup >= end:
            raise UserError(f'WarmupPolyLR delay={delay} + warmup={warmup} must lie between 0 and end={end} steps')
        self.warmup, self.delay, self.power, self.part = warmup, delay, power, part
        groups: list[dict[str, Any]] = optimizer.param_groups
        if part is not None and not any(group.get('part') == part for group in groups):
            raise UserError(f'WarmupPolyLR part={part!r}: no parameter group has it; set optim_wrapper.constructor='
                            "'LayerDecayConstructor'")
        super().__init__(optimizer, param_name='lr', begin=0, end=end, last_step=last_step, by_epoch=False,
                         verbose=verbose)

    def factor(self, step: int) -> float:
        """Share of the full rate at a step."""
        step -= self.delay
        if step < self.warmup:
            return step / self.warmup if step > 0 else 0.0
        return (1 - (step - self.warmup) / (self.end - self.delay - self.warmup)) ** self.power

    def _get_value(self) -> list[float]:
        factor = self.factor(self.last_step)
        return [base * factor if self.part in (None, group.get('part')) else group['lr']
                for base, group in zip(self.base_values, self.optimizer.param_groups)]
