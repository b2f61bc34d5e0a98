"""Checks of ``optim_wrapper.paramwise_cfg``, the rates and decays of single parameters. Called by ``VideoRunner``."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from mmdet.arguments import checked_number, checked_settings
from mmdet.errors import UserError, shortened

_DEFAULT = 'DefaultOptimWrapperConstructor'
_FACTORS = ('bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'dwconv_decay_mult', 'flat_decay_mult',
            'dcn_offset_lr_mult')


def check_paramwise(wrapper: Any, model: nn.Module) -> str | None:
    """Check the options of mmengine's default constructor of optimizers, which ignores what it does not know.

    Args:
        wrapper: the config's ``optim_wrapper``; with another constructor, nothing is checked.
        model: the model, whose parameters ``custom_keys`` select.

    Returns:
        A warning if ``custom_keys`` has keys that select no parameter, else None.

    Raises:
        UserError: an option is unknown, or a factor is not a number of at least 0.
    """
    if not isinstance(wrapper, Mapping) or wrapper.get('constructor', _DEFAULT) != _DEFAULT:
        return None
    where = 'config key optim_wrapper.paramwise_cfg'
    options = wrapper.get('paramwise_cfg') or {}
    if isinstance(options, Mapping) and 'layer_decay_rate' in options:
        raise UserError(f"{where}.layer_decay_rate needs optim_wrapper.constructor='LayerDecayConstructor'")
    checked_settings(where, options, (*_FACTORS, 'custom_keys', 'bypass_duplicate'))
    for name in _FACTORS:
        _check_factor(f'{where}.{name}', options.get(name))
    keys = checked_settings(f'{where}.custom_keys', options.get('custom_keys') or {})
    for key, values in keys.items():
        checked_settings(f'{where}.custom_keys.{key}', values)
        for name in ('lr_mult', 'decay_mult'):
            _check_factor(f'{where}.custom_keys.{key}.{name}', values.get(name))
    names = [name for name, _ in model.named_parameters()]
    unused = [key for key in keys if not any(key in name for name in names)]
    if not unused:
        return None
    parts = sorted({'.'.join(name.split('.')[:2]) for name in names})
    return (f'optim_wrapper.paramwise_cfg.custom_keys: no parameter has {shortened(unused)} in its name; names begin '
            f'with {shortened(parts, 9)}')


def _check_factor(name: str, value: float | None) -> None:
    if value is not None:
        checked_number(name, value, 0)
