"""Checkpoints after each epoch: written atomically, small and reproducible. A default hook of every config."""
from __future__ import annotations

import os.path as osp
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmdet.engine.atomic_backend import ATOMIC
from mmdet.registry import HOOKS

# entries of mmengine's message hub that a resumed run needs; the curves are in the log files
_PATHS = ('best_ckpt', 'last_ckpt')
_REMEMBERED = (*_PATHS, 'best_score', 'keep_ckpt_ids')


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook writing through :class:`mmdet.engine.atomic_backend.AtomicBackend`.

    A file contains ``state_dict``, ``optimizer``, ``param_schedulers``, ``message_hub`` and ``meta`` (config text,
    category names, seed, epoch, iteration). All of it is plain data without dates or absolute paths.

    Args:
        kwargs: arguments of mmengine's hook (``interval``, ``by_epoch``, ``save_best``, ``max_keep_ckpts``, ...).
    """

    best_ckpt_path: str | None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, backend_args=ATOMIC)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remove entries that differ between runs of the same training, and those that only a running process needs."""
        for key in ('time', 'experiment_name'):
            checkpoint['meta'].pop(key, None)
        cfg = runner.cfg.copy()
        for key in ('work_dir', 'load_from', 'resume', 'launcher', 'experiment_name', 'new_schedule'):
            cfg.pop(key, None)
        checkpoint['meta']['cfg'] = cfg.pretty_text
        info = checkpoint['message_hub']['runtime_info']
        kept = {key: osp.basename(value) if key in _PATHS else value
                for key, value in info.items() if key in _REMEMBERED}
        kept['iterations_per_epoch'] = len(runner.train_dataloader)
        checkpoint['message_hub'] = dict(log_scalars={}, runtime_info=kept, resumed_keys=dict.fromkeys(kept, True))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore the paths of the best and the last checkpoint, which are in the current ``work_dir``."""
        info = checkpoint.get('message_hub', {}).get('runtime_info', {})
        info.update({key: osp.join(runner.work_dir, osp.basename(info[key])) for key in _PATHS if key in info})

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Save the best checkpoint and delete the previous one afterwards; mmengine deletes it before."""
        if not self.save_best:
            return
        former, self.best_ckpt_path = self.best_ckpt_path, None
        super()._save_best_checkpoint(runner, metrics)
        if self.best_ckpt_path is None:
            self.best_ckpt_path = former
        elif former and former != self.best_ckpt_path and is_main_process() and self.file_backend.isfile(former):
            self.file_backend.remove(former)
