"""Warm-up and polynomial decay of the learning rate, with a separate schedule for each part of a model.

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
    """Multiplies the learning rate by a factor with a delay, a linear warm-up and a polynomial decay.

    At step s, counted from 0, the factor is 0 for the first ``delay`` steps, increases linearly to 1 during the next
    ``warmup`` steps, and is then (1 − (s − w) / (end − w))^power with w = delay + warmup. Only parameter groups with
    the given ``part`` change, so that each part can have its own scheduler
    (:class:`mmdet.engine.layer_decay.LayerDecayConstructor` makes such groups).

    Args:
        optimizer: the optimizer or its wrapper.
        end: number of steps of the training; after them the rate keeps its last value.
        warmup, delay: numbers of steps.
        power: exponent of the decay.
        part: part of the parameter groups that change; None: all groups.
        last_step, by_epoch, verbose: see mmengine; ``by_epoch`` must be False, because steps are iterations.

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
        """Return the factor at a step, in [0, 1]."""
        step -= self.delay
        if step < self.warmup:
            return step / self.warmup if step > 0 else 0.0
        return (1 - (step - self.warmup) / (self.end - self.delay - self.warmup)) ** self.power

    def _get_value(self) -> list[float]:
        factor = self.factor(self.last_step)
        return [base * factor if self.part in (None, group.get('part')) else group['lr']
                for base, group in zip(self.base_values, self.optimizer.param_groups)]
