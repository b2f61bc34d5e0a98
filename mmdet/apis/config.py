"""Config files: reading them, ``--cfg-options``, and finding unknown names before anything is built.

Called by the command lines. Configs are Python files, which may name others in ``_base_``; reading one runs it.
"""
from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine import registry as mmengine_registry
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.registry import Registry
from mmengine.runner import Runner

import mmdet.checkpoint  # noqa: F401  registers the initialiser Pretrained
from mmdet import registry as mmdet_registry
from mmdet.datasets.layout import find_annotations
from mmdet.errors import UserError

# read by a builder before the constructor sees the dict
_BUILDERS_OWN = {
    'type', '_scope_', 'priority', 'constructor', 'paramwise_cfg', 'convert_to_iter_based', 'requires_grad'}
_TOP_LEVEL = set(inspect.signature(Runner.__init__).parameters) | {
    'find_unused_parameters', 'model_wrapper_cfg', 'activation_checkpointing', 'compile', 'sync_bn'}
# of at least this; where -1 is allowed, it means never, or all
_WHOLE_NUMBERS = {'train_cfg.max_epochs': 1, 'train_cfg.max_iters': 1, 'train_dataloader.batch_size': 1,
                  'train_dataloader.num_workers': 0, 'test_dataloader.batch_size': 1, 'test_dataloader.num_workers': 0,
                  'train_cfg.val_interval': 1, 'default_hooks.logger.interval': 1,
                  'default_hooks.logger.interval_exp_name': 1, 'default_hooks.checkpoint.interval': -1,
                  'default_hooks.checkpoint.max_keep_ckpts': -1, 'default_hooks.checkpoint.save_begin': 0,
                  'default_hooks.finite_loss.max_skipped': 0, 'default_hooks.stop.interval': 1}


def load_config(path: str | os.PathLike, options: Sequence[tuple[str, str]] = ()) -> Config:
    """Reads a config, changes it by ``KEY=VALUE`` pairs and checks every name in it.

    Data sets without a ``num_classes`` of their own get the model's, to compare it with their annotation files.

    Args:
        path: the config file.
        options: dotted keys and their values as text (numbers, True, None and bracketed lists are recognised).

    Raises:
        UserError: unreadable file, no model in it, unknown key, unknown registry name, unknown constructor argument,
            parts of the model with different numbers of classes.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f'{path}: no such config file')
    if path.suffix != '.py':  # mmengine's reader of YAML would build any Python object that the file names
        raise UserError(f'{path}: configs are Python files, named *.py')
    try:
        cfg = Config.fromfile(path)
        list(_typed_dicts(cfg._cfg_dict, ''))  # mmengine imports what a config imports only when it is looked at
    except Exception as error:  # a config is a program: anything may go wrong in it
        text = ' '.join(str(error).split())[:300]
        raise UserError(f'{path}: cannot be read as a config: {type(error).__name__}: {text}') from error
    if not isinstance(cfg.get('model'), dict):
        raise UserError(f'{path}: holds no model; start it with _base_ = \'./OTHER.py\', the config that it changes')
    _merge(cfg, options)
    check_config(cfg)
    _share_num_classes(cfg)
    return cfg


def check_config(cfg: Config) -> None:
    """Looks up every ``type`` and every argument beside it; raises UserError."""
    for where, node in _typed_dicts(cfg._cfg_dict, ''):
        classes = _find(node['type'], where)
        unknown = [sorted(set(node) - names) for names in map(_arguments, classes) if names is not None]
        if len(unknown) == len(classes) and all(unknown):
            name = min(unknown, key=len)[0]
            known = sorted(set().union(*(_arguments(found) or set() for found in classes)) - _BUILDERS_OWN - {'self'})
            raise UserError(f'config key {where}.{name}: {_name(node["type"])} has no argument {name!r}'
                            + _near(name, known))


def require(cfg: Config, *keys: str) -> None:
    """Raises UserError unless the config has the keys, and the numbers among them that a command reads make sense."""
    missing = [key for key in keys if not cfg.get(key)]
    if missing:
        raise UserError(f'{cfg.filename} has no {", ".join(missing)}; take them over with _base_, as the other configs '
                        'do')
    for where, least in _WHOLE_NUMBERS.items():
        parent, _, last = where.rpartition('.')
        first, *between = parent.split('.')
        node = cfg[first] if first in keys else {}
        for part in between:
            # a hook that is None is left out
            node = node.get(part) or {} if isinstance(node, dict) else node
        if not isinstance(node, dict):
            raise UserError(f'config key {parent}: {node!r} must be a dict')
        value = node.get(last, least)
        if type(value) is not int or value < least:
            raise UserError(f'config key {where}: {value!r} must be a whole number of at least {least}')
    rate = cfg.optim_wrapper.get('optimizer', {}).get('lr', 1) if 'optim_wrapper' in keys else 1
    if not isinstance(rate, (int, float)) or not rate > 0:
        raise UserError(f'config key optim_wrapper.optimizer.lr: {rate!r} must be a number above 0')


def find_scored_annotations(evaluator: ConfigDict) -> None:
    """Points an evaluator's ``ann_file`` to where the data set finds it, which may be the archives' own layout.

    One that is nowhere stays as it is: the data set or the metric says so.
    """
    if isinstance(evaluator, dict) and evaluator.get('ann_file'):
        with suppress(UserError):
            evaluator['ann_file'] = str(find_annotations('', evaluator['ann_file']))


def _share_num_classes(cfg: Config) -> None:
    counts = {where: node['num_classes'] for where, node in _typed_dicts(cfg.model, 'model') if 'num_classes' in node}
    if len(set(counts.values())) > 1:
        found = ', '.join(f'{where}.num_classes={count}' for where, count in counts.items())
        raise UserError(f'{cfg.filename}: parts of the model differ in their classes: {found}; give them one number')
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        for where, node in _typed_dicts(cfg.get(name), name):
            if counts and any('num_classes' in (_arguments(found) or ()) for found in _find(node['type'], where)):
                node.setdefault('num_classes', next(iter(counts.values())))


def pretrained_nodes(cfg: Config) -> list[tuple[str, ConfigDict]]:
    """The parts of a config, with their dotted keys, that start from a file of pre-trained weights."""
    return [(where, node) for where, node in _typed_dicts(cfg._cfg_dict, '')
            if isinstance(node.get('init_cfg'), dict) and node['init_cfg'].get('type') == 'Pretrained']


def _typed_dicts(node: Any, where: str) -> Iterator[tuple[str, dict]]:
    if isinstance(node, dict):
        if 'type' in node:
            yield where, node
        children: Iterable = node.items()
    elif isinstance(node, (list, tuple)):
        children = enumerate(node)
    else:
        return
    for key, child in children:
        yield from _typed_dicts(child, f'{where}.{key}' if where else str(key))


def _registries() -> list[Registry]:
    """This project's registries, then mmengine's."""
    return [value for module in (mmdet_registry, mmengine_registry) for value in vars(module).values()
            if isinstance(value, Registry)]


def _find(type_: Any, where: str) -> list[Any]:
    """Every class or function registered under a name."""
    if not isinstance(type_, str):
        return [type_]
    found = [entry for registry in _registries() if (entry := registry.get(type_)) is not None]
    if not found:
        known = {name for registry in _registries() for name in registry.module_dict}
        raise UserError(f'config key {where}.type: nothing is registered as {type_!r}{_near(type_, known)}')
    return found


def _arguments(target: Any) -> set[str] | None:
    """Names that a constructor or function takes from a config; None if it takes any."""
    if not inspect.isclass(target):
        parameters = inspect.signature(target).parameters.values()
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
        return None if open_ended else {p.name for p in parameters} | _BUILDERS_OWN
    names, forwards = set(_BUILDERS_OWN), False
    for klass in target.__mro__[:-1]:
        if '__init__' in vars(klass):
            parameters = inspect.signature(vars(klass)['__init__']).parameters.values()
            names |= {p.name for p in parameters}
            forwards = any(p.kind is p.VAR_KEYWORD for p in parameters)
            if not forwards:
                break
    return None if forwards else names


def _merge(cfg: Config, options: Sequence[tuple[str, str]]) -> None:
    values = {}
    for key, text in options:
        _check_key(cfg, key)
        try:
            values[key] = DictAction._parse_iterable(text)
        except AssertionError:
            raise UserError(f'--cfg-options {key}={text}: the brackets are not balanced') from None
    try:
        cfg.merge_from_dict(values)
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(f'--cfg-options {" ".join(values)}: {" ".join(str(error).split())[:200]}') from None


def _check_key(cfg: Config, key: str) -> None:
    """Raises UserError unless the config has the key, or a dict in it may take it as an argument."""
    node: Any = cfg._cfg_dict
    seen: list[str] = []
    for part in key.split('.'):
        if isinstance(node, (list, tuple)):
            if not part.isdecimal() or int(part) >= len(node):
                raise UserError(f'--cfg-options {key}: {".".join(seen)} is a list of {len(node)}; '
                                f'{part!r} is not one of 0..{len(node) - 1}')
            node = node[int(part)]
        elif isinstance(node, dict) and node.get(part) is not None:
            node = node[part]
        elif isinstance(node, dict):
            _check_new_key(node, part, key, seen)
            node.pop(part, None)  # None cannot be merged into
            return
        else:
            raise UserError(f'--cfg-options {key}: {".".join(seen)} is {node!r}, it has no keys')
        seen.append(part)


def _check_new_key(node: ConfigDict, part: str, key: str, seen: list[str]) -> None:
    if not seen:
        accepted: set[str] | None = _TOP_LEVEL
    elif 'type' in node:
        arguments = [_arguments(found) for found in _find(node['type'], '.'.join(seen))]
        accepted = None if None in arguments else set().union(*filter(None, arguments))
    else:
        accepted = set()
    if part not in node and accepted is not None and part not in accepted:
        known = sorted((set(node) | accepted) - _BUILDERS_OWN - {'self'})
        raise UserError(f'--cfg-options {key}: the config has no key {".".join([*seen, part])!r}{_near(part, known)}')


def _near(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f'; did you mean {" or ".join(close)}?' if close else ''


def _name(type_: Any) -> str:
    return type_ if isinstance(type_, str) else getattr(type_, '__name__', str(type_))
