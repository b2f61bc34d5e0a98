"""The schedule of a resumed training, and warnings if schedule and training differ in length. Used by the runner.

A checkpoint contains the optimizer's hyperparameters and the state of the schedulers. A resumed training uses these
even if the config has changed since, unless the user chooses those of the config (``--new_schedule``).
"""
from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.optim.scheduler import ConstantParamScheduler, LinearParamScheduler
from mmengine.optim.scheduler.param_scheduler import INF

from mmdet.errors import UserError, counted, shortened

# keys of a parameter group that are not hyperparameters, or that only choose kernels
_NOT_COMPARED = ('params', 'fused', 'foreach', 'capturable', 'differentiable')
_PROGRESS = ('last_step', '_global_step', '_last_value', 'base_values', 'verbose')  # keys of a scheduler's progress
_STRETCHED = ('milestones', 'step_size', 'T_max', 'end')  # keys of a scheduler's config that count epochs


def check_resumable_optimizer(wrapper: OptimWrapper, state: Mapping[str, Any], source: str) -> None:
    """Raise UserError unless a checkpoint's optimizer state fits the optimizer and its parameters."""
    saved, own = state.get('param_groups', ()), wrapper.optimizer.param_groups
    sizes = [[len(group['params']) for group in groups] for groups in (saved, own)]
    if sizes[0] != sizes[1]:
        raise UserError(f'{source}: its optimizer has {counted(len(sizes[0]), "group")} of '
                        f'{counted(sum(sizes[0]), "parameter")}, the config\'s {len(sizes[1])} of {sum(sizes[1])}; '
                        'resume with the model and paramwise_cfg that it was saved with, or start from its weights '
                        'with --load_from')
    names = [{name for group in groups for name in group if name not in _NOT_COMPARED} for groups in (saved, own)]
    differing = sorted(names[0] ^ names[1])
    if any(name in ('betas', 'momentum', 'alpha', 'rho') for name in differing):
        raise UserError(f'{source}: was trained with another optimizer than {type(wrapper.optimizer).__name__} '
                        f'({shortened(differing)}); resume with the same, or start from its weights with --load_from')


def schedule_changes(wrapper: OptimWrapper, schedulers: Sequence[_ParamScheduler], checkpoint: Mapping[str, Any],
                     ) -> list[str]:
    """List the differences between the checkpoint's schedule and the config's: ``lr 0.001 (config: 0.01)``.

    To be called before the checkpoint's states are loaded.
    """
    changes = []
    for saved, own in zip(checkpoint['optimizer']['param_groups'], wrapper.optimizer.param_groups):
        common = (set(saved) & set(own)) - set(_NOT_COMPARED)
        # schedulers change lr and keep its initial value as initial_lr
        for name in sorted(common - {initial.removeprefix('initial_') for initial in common if 'initial_' in initial}):
            if not _equal(saved[name], own[name]):
                changes.append(f'{name.removeprefix("initial_")} {_plain(saved[name])} (config: {_plain(own[name])})')
    states = checkpoint['param_schedulers']
    if len(states) != len(schedulers):
        changes.append(f'{counted(len(states), "scheduler")} (config: {len(schedulers)})')
    for index, (saved, scheduler) in enumerate(zip(states, schedulers)):
        own = scheduler.state_dict()
        if set(saved) != set(own):
            changes.append(f'another kind of scheduler (config: {type(scheduler).__name__})')
            continue
        for name in sorted(set(own) - set(_PROGRESS)):
            if not _equal(saved[name], own[name]):
                changes.append(f'param_scheduler.{index}.{name} {_plain(saved[name])} (config: {_plain(own[name])})')
    return list(dict.fromkeys(changes))


def hyperparameters(wrapper: OptimWrapper) -> list[dict[str, Any]]:
    """Return the current hyperparameters of each parameter group."""
    return [{name: value for name, value in group.items() if name != 'params'}
            for group in wrapper.optimizer.param_groups]


def follow_config(wrapper: OptimWrapper, values: Sequence[Mapping[str, Any]], schedulers: Sequence[_ParamScheduler],
                  iterations: int, epoch_length: int) -> None:
    """Advance newly built schedulers to a later iteration.

    Args:
        wrapper: optimizer wrapper, whose parameter groups get the values.
        values: hyperparameters of the first iteration, see :func:`hyperparameters`.
        schedulers: newly built schedulers.
        iterations: number of completed iterations.
        epoch_length: number of iterations in an epoch.
    """
    for group, own in zip(wrapper.optimizer.param_groups, values):
        group.update(own)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # of missing optimizer steps between those of the schedulers
        for done in range(1, iterations + 1):
            for scheduler in schedulers:
                if not scheduler.by_epoch or done % epoch_length == 0:
                    scheduler.step()


def coverage(schedulers: Sequence[_ParamScheduler], configs: Sequence[Mapping[str, Any]], length: int,
             epoch_length: int, resumed: bool, unit: str = 'epoch') -> str | None:
    """Return a warning if the schedule is longer or shorter than the training, else None.

    Args:
        schedulers: schedulers of the training.
        configs: the config's ``param_scheduler``.
        length: length of the training.
        epoch_length: number of iterations in an epoch.
        resumed: whether the state of the schedulers comes from a checkpoint.
        unit: unit of the length: ``'epoch'`` or ``'iteration'``.
    """
    per_epoch = 1 if unit == 'epoch' else epoch_length
    ends = {index: scheduler.end * per_epoch / (1 if scheduler.by_epoch else epoch_length)
            for index, scheduler in enumerate(schedulers) if scheduler.end < INF and not _is_warm_up(scheduler)}
    if not ends or round(covered := max(ends.values())) == length:
        return None
    stretched = [option for index in ends if index < len(configs)
                 for option in _stretched(index, configs[index], length / covered)]
    remedy = (f'; for a schedule of {counted(length, unit)} add --cfg-options {" ".join(stretched)}'
              + ' and --new_schedule' * resumed) if stretched else ''
    if length > covered:
        return (f'The schedule covers {covered:.4g} of {counted(length, unit)}: after them the learning rate stays as '
                f'it is{remedy}')
    return f'The training ends after {length} of the schedule\'s {covered:.4g} {unit}s{remedy}'


def _is_warm_up(scheduler: _ParamScheduler) -> bool:
    return isinstance(scheduler, (LinearParamScheduler, ConstantParamScheduler)) and scheduler.begin == 0


def _stretched(index: int, config: Mapping[str, Any], factor: float) -> Iterator[str]:
    for name in _STRETCHED:
        value = config.get(name)
        if isinstance(value, (list, tuple)):
            yield f'param_scheduler.{index}.{name}=[{",".join(str(round(one * factor)) for one in value)}]'
        elif value is not None:
            yield f'param_scheduler.{index}.{name}={round(value * factor)}'


def _plain(value: Any) -> Any:
    """Format a value for a message. A scheduler stores its milestones as a Counter."""
    if isinstance(value, float):
        return f'{value:.6g}'
    return sorted(value) if isinstance(value, Mapping) else value


def _equal(saved: Any, own: Any) -> bool:
    if isinstance(saved, (list, tuple)) and isinstance(own, (list, tuple)):
        return list(saved) == list(own)
    return saved == own
