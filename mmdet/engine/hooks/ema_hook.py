"""Exponential moving average (EMA) of the weights; validated, tested and saved. Built from ``custom_hooks``."""
from __future__ import annotations

from typing import Any

from mmengine.hooks import EMAHook as _EMAHook
from mmengine.runner import Runner

from mmdet.arguments import checked_count, checked_number
from mmdet.errors import UserError
from mmdet.registry import HOOKS


@HOOKS.register_module()
class EMAHook(_EMAHook):
    """mmengine's ``EMAHook``, whose average w̄ ← (1 − m)·w̄ + m·w is exact when a training is resumed.

    The average is updated after each iteration and has the weights of the first one at the beginning. Validation uses
    it, and checkpoints contain it as ``state_dict``, so that tests, demos and exports use it without further settings;
    the trained weights are in ``ema_state_dict``, and a resumed training continues with both.

    It contains all parameters, the units of a :class:`~mmdet.models.memory.CNPMemory` as well, which the forward pass
    writes: each update takes the units as they are after the write. They change slowly and keep their places, so that
    their average is what the averaged MLP read on average. Buffers, such as the statistics of batch norms, are not
    averaged but copied. All processes compute the same average, because their weights are equal.

    Weights are exchanged in place, so that CUDA graphs of the training (``model.graph_training``) remain valid.

    Differences from mmengine's: a checkpoint that is written during a validation (:class:`StopHook`) can be resumed
    exactly; and weights from which a training starts, or that are tested, need not be those of a whole model, because
    the average does not read them: it begins in the first iteration.

    Args:
        begin_iter, begin_epoch: iteration or epoch with which the average begins; one of both.
        **kwargs: further arguments of mmengine's hook and of its ``ema_type``; above all ``momentum`` m, 0.0002 by
            default: the average spans about 1/m iterations, which should be a small part of the training.

    Raises:
        UserError: an argument has no valid value.
    """

    _swapped = False  # whether the model has the averaged weights

    def __init__(self, *, begin_iter: int = 0, begin_epoch: int = 0, **kwargs: Any) -> None:
        for name, value, least in (('begin_iter', begin_iter, 0), ('begin_epoch', begin_epoch, 0),
                                   ('interval', kwargs.get('interval', 1), 1)):
            checked_count(f'EMAHook {name}', value, least)
        if 'momentum' in kwargs and not 0 < checked_number('EMAHook momentum', kwargs['momentum'], 0, 1) < 1:
            raise UserError(f'EMAHook momentum={kwargs["momentum"]!r} must be above 0 and below 1')
        super().__init__(begin_iter=begin_iter, begin_epoch=begin_epoch, **kwargs)

    def before_train(self, runner: Runner) -> None:
        """Raise UserError if the training ends before the average begins."""
        name, begin, length = (('epoch', self.begin_epoch, runner.max_epochs) if self.enabled_by_epoch else
                               ('iter', self.begin_iter, runner.max_iters))
        if begin > length:
            raise UserError(f'EMAHook begin_{name}={begin}: the training ends at {length}, so that there would be no '
                            'average; begin earlier')

    def _swap_ema_parameters(self) -> None:
        if self.ema_model.steps:  # otherwise there is no average yet
            super()._swap_ema_parameters()
            self._swapped = not self._swapped

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save the average as ``state_dict`` and the trained weights as ``ema_state_dict``."""
        checkpoint['ema_state_dict'] = self.ema_model.state_dict()
        if not self._swapped:
            self._swap_ema_state_dict(checkpoint)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Continue with the average of a resumed training."""
        if not runner._resume:
            return
        if 'ema_state_dict' in checkpoint:
            super().after_load_checkpoint(runner, checkpoint)
        else:
            runner.logger.warning('EMAHook: the resumed training had no average of its weights; it begins now')
