"""Layer-wise learning rate decay: rates decrease from a transformer's output to its input (ELECTRA, arXiv 2003.10555).

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
    """Makes one parameter group for each depth, with learning rate lr · rate^depth.

    A module with blocks defines the depth of its parameters by a method ``lr_depth(name)`` (0: nearest to the output;
    ``name`` as in the module's ``named_parameters()``). All other parameters have the full rate. Weight decay is the
    same for all parameters, including norms and biases. Groups have a key ``part``: ``'decayed'`` for parameters of
    modules with ``lr_depth``, ``'other'`` for all others, which come first.

    Args:
        optim_wrapper_cfg: config of the wrapper with ``optimizer``, whose ``lr`` and ``weight_decay`` are used.
        paramwise_cfg: a dict with ``layer_decay_rate``, in (0, 1].

    Raises:
        UserError: the rate is out of range, or there is another key.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        options = dict(paramwise_cfg or {})
        self.rate = options.pop('layer_decay_rate', None)
        if options or type(self.rate) not in (int, float) or not 0 < self.rate <= 1:
            raise UserError(f'optim_wrapper.paramwise_cfg={paramwise_cfg}: LayerDecayConstructor takes '
                            'layer_decay_rate, a number above 0 and up to 1, such as dict(layer_decay_rate=0.6)')
        super().__init__(optim_wrapper_cfg)
        # if this were empty, mmengine would pass all parameters to the optimizer without calling add_params
        self.paramwise_cfg = dict(layer_decay_rate=self.rate)

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: Any) -> None:
        """Append the parameter groups of a whole model to ``params``; called by mmengine."""
        deep = [(name, part) for name, part in module.named_modules() if hasattr(part, 'lr_depth')]
        if not deep:
            backbone = getattr(module, 'backbone', None)
            name = type(module).__name__ if backbone is None else f'the backbone {type(backbone).__name__}'
            raise UserError(f"optim_wrapper.constructor='LayerDecayConstructor': {name} has no blocks with a depth "
                            '(lr_depth), as ViT has; remove constructor and layer_decay_rate, and set rates by name '
                            'with paramwise_cfg.custom_keys')
        groups: dict[tuple[str, int], list[nn.Parameter]] = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            owner, part = next(((owner, part) for owner, part in deep if name.startswith(f'{owner}.')), ('', None))
            key = (OTHER, 0) if part is None else (DECAYED, part.lr_depth(name.removeprefix(f'{owner}.')))
            groups.setdefault(key, []).append(parameter)
        for part, depth in sorted(groups, key=lambda key: (key[0] != OTHER, key[1])):
            params.append({'params': groups[part, depth], 'lr': self.base_lr * self.rate ** depth, 'part': part})
