"""Reading of config files with ``--cfg-options``, and detection of unknown names before anything is built.

Called by the command lines. Configs are Python files, which may inherit from others by ``_base_``. Reading a config
executes it.
"""
from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from mmengine.config import Config, ConfigDict

from mmdet.apis.config_names import (
    BUILDERS_OWN,
    arguments_of,
    did_you_mean,
    find_types,
    flags_of,
    type_name,
    typed_dicts,
)
from mmdet.apis.config_options import apply_options
from mmdet.datasets.layout import find_annotations
from mmdet.errors import UserError
from mmdet.shipped import CONFIGS, find_config

# minimum values of integers; -1, where it is allowed, means "never" or "all"
_WHOLE_NUMBERS = {'train_cfg.max_epochs': 1, 'train_cfg.max_iters': 1, 'train_dataloader.batch_size': 1,
                  'train_dataloader.num_workers': 0, 'test_dataloader.batch_size': 1, 'test_dataloader.num_workers': 0,
                  'train_cfg.val_interval': 1, 'default_hooks.logger.interval': 1,
                  'default_hooks.logger.interval_exp_name': 1, 'default_hooks.checkpoint.interval': -1,
                  'default_hooks.checkpoint.max_keep_ckpts': -1, 'default_hooks.checkpoint.save_begin': 0,
                  'default_hooks.finite_loss.max_skipped': 0, 'default_hooks.stop.interval': 1}


def load_config(path: str | os.PathLike, options: Sequence[tuple[str, str]] = ()) -> Config:
    """Read a config, change it by ``KEY=VALUE`` pairs and check every name in it.

    Data sets without ``num_classes`` get that of the model, which is compared with their annotation files.

    Args:
        path: the config file, or the name of a shipped config: ``'memcnp_toy'``.
        options: dotted keys and their values as text, see :func:`mmdet.apis.config_options.parse_value`. A new value of
            a variable of the config's files, such as ``data_root``, also applies to all values built from it.

    Raises:
        UserError: unreadable file, no model in it, unknown key, unknown registry name, unknown constructor argument,
            an option of another type than the previous value, a text for True or False, parts of the model with
            different numbers of classes.
    """
    path = find_config(path)
    if not path.is_file():
        raise UserError(f'{path}: no such config file')
    if path.suffix != '.py':  # mmengine's reader of YAML would build any Python object that the file names
        raise UserError(f'{path}: configs are Python files, named *.py')
    os.environ['MEMCNP_CONFIGS'] = str(CONFIGS)  # for _base_ = '{{$MEMCNP_CONFIGS:}}/memcnp_toy.py'
    try:
        cfg = Config.fromfile(path)
        list(typed_dicts(cfg._cfg_dict, ''))  # mmengine imports lazily: access every value to find failing imports
    except Exception as error:  # a config is a program, which may raise any exception
        text = ' '.join(str(error).split())[:300]
        raise UserError(f'{path}: cannot be read as a config: {type(error).__name__}: {text}') from error
    if not isinstance(cfg.get('model'), dict):
        raise UserError(f'{path}: holds no model; let it inherit from a config that has one: _base_ = \'./OTHER.py\'')
    cfg = apply_options(cfg, options)
    check_config(cfg)
    _share_num_classes(cfg)
    return cfg


def check_config(cfg: Config) -> None:
    """Raise UserError if a ``type`` or one of its arguments is unknown, or a text is given for True or False."""
    for where, node in typed_dicts(cfg._cfg_dict, ''):
        if where == 'optim_wrapper.clip_grad':  # whose type, 'norm' or 'value', is not that of a class
            continue
        classes = find_types(node['type'], where)
        unknown = [sorted(set(node) - names) for names in map(arguments_of, classes) if names is not None]
        if len(unknown) == len(classes) and all(unknown):
            name = min(unknown, key=len)[0]
            known = sorted(set().union(*(arguments_of(found) or set() for found in classes)) - BUILDERS_OWN - {'self'})
            raise UserError(f'config key {where}.{name}: {type_name(node["type"])} has no argument {name!r}'
                            + did_you_mean(name, known))
        for name in sorted(set(node).intersection(*map(flags_of, classes))):
            # numbers are accepted, as on the command line
            if not isinstance(value := node[name], bool | int | float | None):
                raise UserError(f'config key {where}.{name}: {value!r} must be True or False')


def require(cfg: Config, *keys: str) -> None:
    """Raise UserError unless the config has the keys and the numbers that a command reads are in range."""
    missing = [key for key in keys if not cfg.get(key)]
    if missing:
        raise UserError(f'{cfg.filename} has no {", ".join(missing)}; inherit them with _base_, as other configs do')
    for where, least in _WHOLE_NUMBERS.items():
        parent, _, last = where.rpartition('.')
        first, *between = parent.split('.')
        node = cfg[first] if first in keys else {}
        for part in between:
            # a hook that is None is disabled
            node = node.get(part) or {} if isinstance(node, dict) else node
        if not isinstance(node, dict):
            raise UserError(f'config key {parent}: {node!r} must be a dict')
        value = node.get(last, least)
        if type(value) is not int or value < least:
            raise UserError(f'config key {where}: {value!r} must be a whole number of at least {least}')
    rate = cfg.optim_wrapper.get('optimizer', {}).get('lr', 1) if 'optim_wrapper' in keys else 1
    if not isinstance(rate, (int, float)) or not 0 < rate < float('inf'):
        raise UserError(f'config key optim_wrapper.optimizer.lr: {rate!r} must be a number above 0')


def find_scored_annotations(evaluator: ConfigDict) -> None:
    """Set an evaluator's ``ann_file`` to the path at which the data set finds it, see ``mmdet.datasets.layout``.

    A missing file is not an error here; the data set or the metric reports it.
    """
    if isinstance(evaluator, dict) and evaluator.get('ann_file'):
        with suppress(UserError):
            evaluator['ann_file'] = str(find_annotations('', evaluator['ann_file']))


def chosen_classes(cfg: Config) -> Sequence[str] | None:
    """Return the names of the categories that the test set is limited to (``metainfo.classes``); None: all."""
    return (cfg.test_dataloader.dataset.get('metainfo') or {}).get('classes')


def _share_num_classes(cfg: Config) -> None:
    counts = {where: node['num_classes'] for where, node in typed_dicts(cfg.model, 'model') if 'num_classes' in node}
    if len(set(counts.values())) > 1:
        found = ', '.join(f'{where}.num_classes={count}' for where, count in counts.items())
        raise UserError(f'{cfg.filename}: parts of the model differ in their classes: {found}; give them one number')
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        for where, node in typed_dicts(cfg.get(name), name):
            targets = find_types(node['type'], where)
            if counts and any('num_classes' in (arguments_of(target) or ()) for target in targets):
                node.setdefault('num_classes', next(iter(counts.values())))


def pretrained_nodes(cfg: Config) -> list[tuple[str, ConfigDict]]:
    """Return the parts of a config, with their dotted keys, that are initialised from pre-trained weights."""
    return [(where, node) for where, node in typed_dicts(cfg._cfg_dict, '')
            if isinstance(node.get('init_cfg'), dict) and node['init_cfg'].get('type') == 'Pretrained']
