"""Training from a config. Called by train.py."""
from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper
from torch import nn

from mmdet.apis.config import find_scored_annotations, pretrained_nodes, require
from mmdet.apis.run_checks import (
    check_averages,
    check_backends,
    check_schedule,
    check_watched_statistics,
    infer_rules,
    refuse_used_folder,
)
from mmdet.checkpoint import find_checkpoint, newest_whole_checkpoint
from mmdet.engine import VideoRunner, init_processes, leave_processes, prepare_cublas, use_full_float32
from mmdet.errors import UserError
from mmdet.files import load_json
from mmdet.zoo import find_weights

AUTO = 'auto'
UNREAD = ('test_dataloader', 'test_cfg', 'test_evaluator')  # keys of a config that training does not read
UNREAD_WITHOUT_VALIDATION = ('val_dataloader', 'val_cfg', 'val_evaluator')


def train(cfg: Config, *, work_dir: str | None = None, load_from: str | None = None, resume_from: str | None = None,
          new_schedule: bool = False, validate: bool = False, seed: int | None = None, deterministic: bool = False,
          full_float32: bool = False, amp: bool = False, launcher: str = 'none') -> nn.Module:
    """Train the config's model on the config's data.

    Args:
        cfg: result of :func:`mmdet.apis.load_config`.
        work_dir: folder for checkpoints and logs; None: the config's, else ``work_dirs/<name of the config>``.
        load_from: initial weights: a whole detector or only a backbone (MAE, torchvision, timm), as
            :func:`mmdet.checkpoint.find_checkpoint` accepts them.
        resume_from: checkpoint to resume from, or ``'auto'`` for the newest complete one in ``work_dir``.
        new_schedule: with ``resume_from``, use the learning rate and schedule of the config instead of those of the
            checkpoint.
        validate: evaluate on the validation set after every epoch, and keep the best checkpoint as ``best_*.pth``.
        seed: seed of all random numbers; None: the config's.
        deterministic: use deterministic algorithms, which are slower; an operation without one raises UserError.
        full_float32: on a GPU, compute convolutions in float32 instead of PyTorch's default, TF32.
        amp: use mixed precision: bfloat16 if the hardware supports it, else float16 with a loss scale.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Returns:
        The trained model.

    Raises:
        UserError: the config, the data or a checkpoint is invalid.
    """
    cfg = cfg.copy()
    require(cfg, 'train_dataloader', 'train_cfg', 'optim_wrapper', 'default_hooks')
    cfg.launcher = launcher
    cfg.work_dir = default_work_dir(cfg, work_dir)
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    if validate:
        _keep_best(cfg)
    else:
        cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    check_backends(cfg)
    infer_rules(cfg)
    check_watched_statistics(cfg, validate)
    check_averages(cfg)
    check_schedule(cfg)
    if amp:
        _use_amp(cfg)
    _set_randomness(cfg, seed, deterministic)
    _choose_start(cfg, load_from, resume_from)
    if cfg.resume:
        cfg.new_schedule = new_schedule
    elif new_schedule:
        raise UserError('--new_schedule is about a training that is continued: add --resume')
    elif resume_from is None:
        refuse_used_folder(cfg.work_dir)
    if cfg.randomness.deterministic:
        prepare_cublas()
    if full_float32:
        use_full_float32()
    init_processes(launcher)
    make_work_dir(cfg.work_dir)
    model = VideoRunner.from_cfg(cfg).train()
    model = model.module if is_model_wrapper(model) else model
    leave_processes()
    return model


def default_work_dir(cfg: Config, work_dir: str | None) -> str:
    """Return the requested folder, else the config's, else ``work_dirs/<name of the config>``."""
    chosen = work_dir or cfg.get('work_dir') or f'work_dirs/{Path(cfg.filename).stem if cfg.filename else "unnamed"}'
    path = Path(chosen).expanduser()
    if path.exists() and not path.is_dir():
        raise UserError(f'--work_dir {chosen} is a file; name a folder')
    return str(path)


def make_work_dir(path: str) -> None:
    """Create the folder for logs and checkpoints; raise UserError if that is not possible."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'--work_dir {path}: cannot be made ({error.strerror}); choose another folder') from error


def amp_dtype() -> str:
    """Return ``'bfloat16'`` if the hardware supports it, else ``'float16'``."""
    if torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
        return 'float16'
    return 'bfloat16'


def _keep_best(cfg: Config) -> None:
    if not cfg.get('val_dataloader') or not cfg.get('val_evaluator'):
        raise UserError(f'--validate: {cfg.filename} has no val_dataloader and val_evaluator; add them or leave '
                        '--validate out')
    cfg.val_cfg = cfg.get('val_cfg') or dict(type='ValLoop')
    find_scored_annotations(cfg.val_evaluator)
    _check_annotated(cfg.val_evaluator)
    checkpoint = cfg.default_hooks.get('checkpoint')
    if checkpoint and not checkpoint.get('save_best'):
        checkpoint.update(save_best='auto', rule='greater')


def _check_annotated(evaluator: ConfigDict) -> None:
    """Raise UserError if the file has no annotations, before an epoch is trained that cannot be evaluated."""
    path = evaluator.get('ann_file') if isinstance(evaluator, dict) else None
    if path and Path(path).is_file():
        content = load_json(path)
        if isinstance(content, dict) and not content.get('annotations'):
            raise UserError(f'--validate: {path} has no annotations, so nothing could be scored (YouTube-VIS publishes '
                            'none for validation); split the training set with tools/split_dataset.py, or leave '
                            '--validate out')


def _use_amp(cfg: Config) -> None:
    if amp_dtype() == 'bfloat16':
        cfg.optim_wrapper.type = 'BFloat16OptimWrapper'
    else:
        cfg.optim_wrapper.update(type='AmpOptimWrapper', dtype='float16', loss_scale='dynamic')


def _set_randomness(cfg: Config, seed: int | None, deterministic: bool) -> None:
    chosen = cfg.get('randomness') or {}
    seed = chosen.get('seed') if seed is None else seed
    if seed is not None and (type(seed) is not int or not 0 <= seed < 2 ** 32):
        raise UserError(f'--seed {seed!r}: must be a whole number between 0 and {2 ** 32 - 1}')
    cfg.randomness = dict(chosen, seed=seed, deterministic=deterministic or bool(chosen.get('deterministic')))


def _choose_start(cfg: Config, load_from: str | None, resume_from: str | None) -> None:
    if resume_from and load_from:
        raise UserError('--load_from starts a new training and --resume_from continues an old one: give one of them')
    if cfg.get('resume') and not load_from:  # --cfg-options resume=True
        resume_from = resume_from or cfg.get('load_from') or AUTO
    cfg.resume = False
    if resume_from == AUTO:
        newest = newest_whole_checkpoint(cfg.work_dir)
        if newest is None and is_main_process():
            print(f'{cfg.work_dir} has no checkpoint to resume: training starts from the beginning.', flush=True)
        resume_from = str(newest) if newest else None
    if resume_from:
        cfg.load_from, cfg.resume = str(find_checkpoint(resume_from)), True
    elif load_from or cfg.get('load_from'):
        cfg.load_from = str(find_checkpoint(load_from or cfg.load_from, 'leave --load_from out'))
    for where, node in pretrained_nodes(cfg):
        if cfg.get('load_from'):
            node.init_cfg = None  # load_from overwrites these weights
        else:
            _find_pretrained(where, node.init_cfg.checkpoint)


def _find_pretrained(where: str, checkpoint: str) -> None:
    """Download pre-trained weights before any long work starts; raise UserError if they do not exist."""
    otherwise = f'start from random weights with --cfg-options {where}.init_cfg=None'
    if not (Path(checkpoint).expanduser().is_file() or find_weights(checkpoint)):
        raise UserError(f'{checkpoint}: no such file (config key {where}.init_cfg.checkpoint); put the pre-trained '
                        f'weights there, name published ones (tools/weights.py list), or {otherwise}')
    find_checkpoint(checkpoint, otherwise)
