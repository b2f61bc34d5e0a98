"""Stop a training whose loss is not finite, or skip the step. A default hook of every config."""
from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import save_checkpoint, weights_to_cpu
from torch import Tensor
from torch.nn.utils import get_total_norm

from mmdet.engine.atomic_backend import ATOMIC
from mmdet.errors import UserError
from mmdet.registry import HOOKS


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Checks loss and gradient before the optimizer step, so that NaN and Inf never reach the weights.

    All processes skip a step together. Each process with a loss that is not finite writes
    ``bad_loss_iter_N_rank_R.pth``: the model before the step, the batch (``inputs``, and the annotations and file names
    of each frame) and the losses, all of it plain data (``torch.load(..., weights_only=True)``). With a loss scale for
    float16, gradients overflow occasionally by design and the scaler handles them; then only the loss is checked.

    Args:
        max_skipped: number of steps in a run that are skipped with a warning; the next one stops the training.
    """

    priority = 'ABOVE_NORMAL'  # before checkpoints

    def __init__(self, max_skipped: int = 0) -> None:
        if max_skipped < 0:
            raise UserError(f'FiniteLossHook max_skipped={max_skipped} must be 0 or more')
        self.max_skipped = max_skipped
        self.skipped = 0
        self._handles: list = []

    def before_train(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._device = get_device()
        self._optim = runner.optim_wrapper
        self._scaled = hasattr(self._optim, 'loss_scaler')
        self._reset()
        self._handles = [model.register_forward_hook(self._see_losses),
                         runner.optim_wrapper.optimizer.register_step_pre_hook(self._see_step)]

    def after_train(self, runner: Runner) -> None:
        for handle in self._handles:
            handle.remove()

    def _reset(self) -> None:
        self._mine = torch.zeros((), device=self._device)  # sum of this process's losses since the last step
        self._stepped_over: bool | None = None

    def _see_losses(self, module: torch.nn.Module, args: tuple, output: Any) -> None:
        if isinstance(output, dict):
            for values in (value for name, value in output.items() if 'loss' in name):
                for value in [values] if isinstance(values, Tensor) else values:
                    self._mine = self._mine + value.detach().sum()

    def _see_step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        """Remove the gradients before an optimizer step that must be skipped, so that it changes no weight or state."""
        parameters = [p for group in optimizer.param_groups for p in group['params'] if p.grad is not None]
        self._stepped_over = self._bad(False if self._scaled else self._bad_gradient([p.grad for p in parameters]))
        if self._stepped_over:
            for parameter in parameters:
                parameter.grad = None

    def _bad_gradient(self, gradients: list[Tensor]) -> bool | Tensor:
        if not gradients:
            return False
        if self._optim.clip_grad_kwargs and self._optim.grad_name == 'grad_norm':
            # already computed by gradient clipping
            return not math.isfinite(self._optim.message_hub.get_scalar('train/grad_norm').current())
        return ~get_total_norm(gradients).isfinite()

    def _bad(self, bad_gradient: bool | Tensor = False) -> bool:
        """Return whether loss or gradient is not finite in any process; all processes get the same result."""
        bad = (~self._mine.isfinite() | bad_gradient).float()
        all_reduce(bad, 'max')
        return bool(bad)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: dict | None = None) -> None:
        if not runner.optim_wrapper.should_update():
            return  # gradients are still being accumulated
        # a loss scaler skips the optimizer's step without calling its hooks
        bad = self._bad() if self._stepped_over is None else self._stepped_over
        if bad:
            self._report(runner, data_batch, outputs or {})
        self._reset()

    def _report(self, runner: Runner, data_batch: Any, outputs: dict) -> None:
        at_fault = all_gather_object(not bool(self._mine.isfinite()))
        found = None
        # if the gradient is not finite although all losses are, all processes report it
        if at_fault[runner.rank] or not any(at_fault):
            losses = {name: float(value.detach()) for name, value in outputs.items() if 'loss' in name}
            bad = [name for name, value in losses.items() if not math.isfinite(value)]
            what = ', '.join(name for name in bad if name != 'loss' or len(bad) == 1) or 'the gradient'
            name = f'bad_loss_iter_{runner.iter + 1}_rank_{runner.rank}.pth'
            self._dump(runner, name, data_batch, losses)
            found = (f'{what} in the batch of {", ".join(_files(data_batch)) or "unnamed files"} '
                     f'(saved: {Path(runner.work_dir) / name})')
        text = f'iteration {runner.iter + 1}: not finite: {"; ".join(filter(None, all_gather_object(found)))}'
        if self.skipped < self.max_skipped:
            self.skipped += 1
            runner.logger.warning(f'Skipped step {self.skipped} of at most {self.max_skipped}: {text}')
            return
        raise UserError(f'{text}. Check these files, lower the learning rate (optim_wrapper.optimizer.lr), or skip '
                        f'such steps: default_hooks.finite_loss.max_skipped={max(2 * self.max_skipped, 10)}')

    @staticmethod
    def _dump(runner: Runner, name: str, data_batch: Any, losses: dict[str, float]) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        content = dict(meta=dict(iter=runner.iter + 1, epoch=runner.epoch, seed=runner.seed, rank=runner.rank),
                       state_dict=weights_to_cpu(model.state_dict()), losses=losses,
                       inputs=[inputs.cpu() for inputs in data_batch['inputs']],
                       frames=[[_plain(frame) for frame in clip] for clip in _clips(data_batch)])
        save_checkpoint(content, str(Path(runner.work_dir) / name), backend_args=ATOMIC)


def _clips(data_batch: dict) -> list:
    return [clip for clip in data_batch['data_samples'] if hasattr(clip, 'video_data_samples')]


def _files(data_batch: dict) -> list[str]:
    return [str(frame.get('img_path', '')) for clip in _clips(data_batch) for frame in clip]


def _plain(frame: Any) -> dict:
    """Return a frame's annotations as tensors, with its file name and ids."""
    gt = frame.gt_instances.to_tensor() if 'gt_instances' in frame else {}
    return {'img_path': str(frame.get('img_path', '')), 'video_id': frame.get('video_id'),
            'frame_id': frame.get('frame_id'), **{name: value.cpu() for name, value in gt.items()}}
