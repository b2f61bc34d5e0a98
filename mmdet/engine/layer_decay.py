"""Learning rates that fall from block to block towards a transformer's input (ELECTRA, arXiv 2003.10555; BEiT).

Built by the runner from ``optim_wrapper.constructor``. The parts of the groups are read by
:class:`mmdet.engine.warmup_poly.WarmupPolyLR`.
"""
from __future__ import annotations

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmdet.errors import UserError
from mmdet.registry import OPTIM_WRAPPER_CONSTRUCTORS

DECAYED, OTHER = 'decayed', 'other'  # parts


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor(DefaultOptimWrapperConstructor):
    """One parameter group for each depth: lr · rate^depth.

    A module that has blocks says how deep its parameters are by a method ``lr_depth(name)`` (0: nearest to the output;
    ``name`` as in the module's ``named_parameters()``). All other parameters have the full rate. Weight decay is the
    same for all parameters, norms and biases included. Groups have ``part``: ``'decayed'`` for parameters of modules
    with ``lr_depth``, ``'other'`` for the rest, which come first.

    Args:
        optim_wrapper_cfg: config of the wrapper with ``optimizer``, whose ``lr`` and ``weight_decay`` count.
        paramwise_cfg: ``layer_decay_rate``, in (0, 1].

    Raises:
        UserError: another rate or another key.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        options = dict(paramwise_cfg or {})
        self.rate = options.pop('layer_decay_rate', None)
        if options or not isinstance(self.rate, int | float) or not 0 < self.rate <= 1:
            raise UserError(f'optim_wrapper.paramwise_cfg={paramwise_cfg}: LayerDecayConstructor takes '
                            'layer_decay_rate, a number above 0 and up to 1, such as dict(layer_decay_rate=0.6)')
        super().__init__(optim_wrapper_cfg)
        # without it, mmengine would give all parameters to the optimizer as they are
        self.paramwise_cfg = dict(layer_decay_rate=self.rate)

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: Any) -> None:
        """Called by mmengine: append the groups of a whole model to ``params``."""
        deep = [(name, part) for name, part in module.named_modules() if hasattr(part, 'lr_depth')]
        if not deep:
            raise UserError(f'{type(module).__name__} has no part with layer-wise learning rates (lr_depth); remove '
                            'optim_wrapper.constructor')
        groups: dict[tuple[str, int], list[nn.Parameter]] = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            owner, part = next(((owner, part) for owner, part in deep if name.startswith(f'{owner}.')), ('', None))
            key = (OTHER, 0) if part is None else (DECAYED, part.lr_depth(name.removeprefix(f'{owner}.')))
            groups.setdefault(key, []).append(parameter)
        for part, depth in sorted(groups, key=lambda key: (key[0] != OTHER, key[1])):
            params.append({'params': groups[part, depth], 'lr': self.base_lr * self.rate ** depth, 'part': part})
