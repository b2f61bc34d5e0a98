"""Freezing of parameters by patterns of their names: the config's ``frozen``. Called by ``VideoRunner``."""
from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmdet.errors import UserError, shortened


def freeze(model: nn.Module, patterns: Sequence[str] | str) -> list[nn.Module]:
    """Exclude parameters from training: they get no gradient and no update, whatever the optimizer.

    Args:
        model: the detector.
        patterns: regular expressions. Each freezes the parameters whose name, or whose leading part of the name up to a
            dot, it matches: ``'backbone'`` all of the backbone, ``r'backbone\\.blocks\\.[0-3]'`` the blocks 0 to 3.

    Returns:
        The modules with parameters of which none is trained, with all that they contain: batch norms and dropout
        between frozen layers are to stay in evaluation mode.

    Raises:
        UserError: a pattern is not a regular expression or matches no parameter, or nothing is left to train.
    """
    names = dict(model.named_parameters())
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        try:
            found = [name for name in names if re.match(rf'(?:{pattern})(?:\.|$)', name)]
        except (re.error, TypeError) as error:
            raise UserError(f'config key frozen: {pattern!r} is not a regular expression ({error})') from error
        if not found:
            parts = sorted({'.'.join(name.split('.')[:2]) for name in names})
            raise UserError(f'config key frozen: {pattern!r} matches no parameter of the model; their names begin with '
                            f'{shortened(parts, 9)}')
        for name in found:
            names[name].requires_grad_(False)
    if not patterns:
        return []
    if not any(parameter.requires_grad for parameter in names.values()):
        raise UserError(f'config key frozen: {patterns!r} leaves no parameter to train')
    return [module for module in model.modules() if _is_frozen(module)]


def _is_frozen(module: nn.Module) -> bool:
    parameters = list(module.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


class FrozenModeHook(Hook):
    """Keeps modules in evaluation mode during training, so that statistics of batch norms stay, too.

    Args:
        modules: result of :func:`freeze`.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.modules = modules

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Called after the loop has set the whole model to training mode, at the start of an epoch or a validation."""
        for module in self.modules:
            if module.training:
                module.eval()
