"""Checks of the hooks, loggers and schedule of a run before data sets and weights are read.

Called by :func:`mmdet.apis.train` and :func:`mmdet.apis.test`.
"""
from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.optim import OptimWrapper

from mmdet.arguments import checked_positive, faults_of
from mmdet.errors import UserError, shortened
from mmdet.evaluation.functional import coco_ap, vis_eval
from mmdet.registry import HOOKS, MODELS, OPTIMIZERS, PARAM_SCHEDULERS

# modules that a backend imports when the first value is logged, and their names for pip
_BACKENDS = {'WandbVisBackend': {'wandb': 'wandb'}, 'MLflowVisBackend': {'mlflow': 'mlflow'},
             'ClearMLVisBackend': {'clearml': 'clearml'}, 'NeptuneVisBackend': {'neptune': 'neptune'},
             'DVCLiveVisBackend': {'dvclive': 'dvclive', 'pygit2': 'pygit2'}, 'AimVisBackend': {'aim': 'aim'},
             'TensorboardVisBackend': {'tensorboard': 'tensorboard'}}
_METRICS = {'YouTubeVISMetric': ('segm', (*vis_eval.AP_AREA, *vis_eval.AP_OCCLUSION, *vis_eval.AR_AREA,
                                          *vis_eval.AR_OCCLUSION)),
            'CocoMetric': ('bbox', coco_ap.STATISTICS)}
_WATCHES = ('monitor', 'save_best')  # arguments of hooks whose value is the name of a validation statistic


def check_backends(cfg: Config) -> None:
    """Raise UserError unless the packages of the visualizer's backends are installed."""
    backends = (cfg.get('visualizer') or {}).get('vis_backends') or []
    for index, backend in enumerate(backends):
        type_ = backend.get('type') if isinstance(backend, dict) else None
        for module, package in _BACKENDS.get(str(type_).rpartition('.')[2], {}).items():
            if importlib.util.find_spec(module) is None:
                raise UserError(f'config key visualizer.vis_backends.{index}: {type_} needs the package {package}, '
                                f'which is not installed; pip install {package}, or leave the backend out')


def infer_rules(cfg: Config) -> None:
    """Set ``rule`` of hooks that monitor a statistic (``EarlyStoppingHook``, ``save_best``) unless it is given.

    Losses and errors are better when lower (``'less'``), all other statistics when higher (``'greater'``).
    """
    for _, hook, argument, names in _watched(cfg):
        if hook.get('rule') is None:
            rules = ['less' if 'loss' in name.lower() or 'error' in name.lower() else 'greater' for name in names]
            hook['rule'] = rules[0] if isinstance(hook[argument], str) else rules


def check_watched_statistics(cfg: Config, validate: bool) -> None:
    """Raise UserError if a hook monitors a statistic, but there is no validation or the metric does not have it."""
    for where, _, argument, names in _watched(cfg):
        if not validate:
            raise UserError(f'config key {where}.{argument}: {shortened(names)} is a statistic of the validation; add '
                            '--validate')
        _check_names(cfg.val_evaluator, names, f'{where}.{argument}')


def _watched(cfg: Config) -> Iterator[tuple[str, ConfigDict, str, list[str]]]:
    """Yield the hooks that monitor statistics: dotted key, config, name of the argument, names of the statistics."""
    for where, hook in _hooks(cfg):
        for argument in _WATCHES:
            if watched := hook.get(argument):
                yield where, hook, argument, [watched] if isinstance(watched, str) else list(watched)


def _check_names(evaluator: Any, names: Sequence[str], where: str) -> None:
    if not isinstance(evaluator, dict) or evaluator.get('type') not in _METRICS:
        return
    default, statistics = _METRICS[evaluator['type']]
    metrics = evaluator.get('metric', default)
    prefix = f'{evaluator["prefix"]}/' if evaluator.get('prefix') else ''
    known = [f'{prefix}{metric}_{name}' for metric in ([metrics] if isinstance(metrics, str) else metrics)
             for name in statistics]
    for name in names:
        if name not in (*known, 'auto'):
            raise UserError(f'config key {where}: {name!r} is not a statistic of the validation; there are '
                            f'{shortened(known, 9)}')


def _hooks(cfg: Config) -> Iterator[tuple[str, ConfigDict]]:
    """Yield the configs of the hooks with their dotted keys."""
    for name, hook in (cfg.get('default_hooks') or {}).items():
        if isinstance(hook, dict):
            yield f'default_hooks.{name}', hook
    for index, hook in enumerate(cfg.get('custom_hooks') or []):
        if isinstance(hook, dict):
            yield f'custom_hooks.{index}', hook


def check_averages(cfg: Config) -> None:
    """Raise UserError unless a moving average of the weights can be built, which is tried with a model of one layer.

    There can be one: a checkpoint has no place for others.
    """
    first = ''
    for where, hook in _hooks(cfg):
        if hook.get('type') == 'EMAHook':
            if first:
                raise UserError(f'config keys {first} and {where}: each is an EMAHook; remove one of them')
            first = where
            with faults_of(where):
                MODELS.build(HOOKS.build(hook).ema_cfg, default_args=dict(model=torch.nn.Linear(1, 1)))


def check_schedule(cfg: Config) -> None:
    """Raise UserError unless optimizer and schedulers can be built and gradients be clipped.

    All of it is tried with parameters of one element.
    """
    schedulers = cfg.get('param_scheduler') or []
    if isinstance(schedulers, dict):
        schedulers = [schedulers] if 'type' in schedulers else []  # without type: a dict over several optimizers
    # a scheduler for a part of the model requires a parameter group of that part
    groups = [dict(params=[torch.nn.Parameter(torch.zeros(1))], part=part)
              for part in {scheduler.get('part') for scheduler in schedulers} or {None}]
    part = 'optim_wrapper.optimizer'
    try:
        optimizer = OPTIMIZERS.build(dict(cfg.optim_wrapper.optimizer, params=groups))
        for index, scheduler in enumerate(schedulers):
            part = f'param_scheduler.{index}'
            PARAM_SCHEDULERS.build({'end': 10 ** 6, **scheduler},
                                   default_args=dict(optimizer=optimizer, epoch_length=1000))
        part = 'optim_wrapper.clip_grad'
        if cfg.optim_wrapper.get('clip_grad') is not None:
            _check_clipping(OptimWrapper(optimizer, clip_grad=dict(cfg.optim_wrapper.clip_grad)))
    except UserError:
        raise
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, AssertionError, RuntimeError) as error:
        raise UserError(f'config key {part}: cannot be built: {" ".join(str(error).split())[:300]}') from error


def _check_clipping(wrapper: OptimWrapper) -> None:
    """Clip the gradient of one element; a negative limit would reverse gradients."""
    for name in ('max_norm', 'clip_value'):
        if name in wrapper.clip_grad_kwargs:
            checked_positive(f'config key optim_wrapper.clip_grad.{name}', wrapper.clip_grad_kwargs[name])
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.ones(1)
    wrapper.clip_func([parameter], **wrapper.clip_grad_kwargs)


def refuse_used_folder(folder: str) -> None:
    """Raise UserError if a new training would overwrite the checkpoints of an earlier one."""
    found = sorted(Path(folder).glob('epoch_*.pth'), key=lambda path: path.stat().st_mtime)
    found += sorted(Path(folder).glob('iter_*.pth'), key=lambda path: path.stat().st_mtime)
    if found:
        raise UserError(f'--work_dir {folder}: holds the checkpoints of an earlier training '
                        f'({shortened([path.name for path in found], 3)}), which a new one would overwrite; continue '
                        'it with --resume, choose another folder, or remove them')
