"""Parsing and applying ``--cfg-options KEY=VALUE``. Called by :func:`mmdet.apis.load_config`."""
from __future__ import annotations

import ast
import os
import re
from collections.abc import Collection, Sequence
from typing import Any

from mmengine.config import Config, ConfigDict, DictAction

from mmdet.apis.config_names import BUILDERS_OWN, TOP_LEVEL, arguments_of, did_you_mean, find_types
from mmdet.apis.config_variables import is_variable, read_with_variables
from mmdet.errors import UserError

_WORDS = {'true': True, 'false': False, 'null': None}  # of JSON; Python's constants are parsed by ast
_DICTS, _LISTS = ('paramwise_cfg', 'clip_grad', 'init_cfg'), ('custom_hooks', 'vis_backends')
# top-level keys of a config that inference does not read
UNREAD_BY_INFERENCE = TOP_LEVEL - {'model', 'test_dataloader', 'default_scope', 'env_cfg', 'randomness'}
_BY_FLAG = {'launcher': '--launcher', 'cfg': 'the path of a config file'}


def apply_options(cfg: Config, options: Sequence[tuple[str, str]]) -> Config:
    """Return the config with new values; a variable's value also applies to everything the files build from it.

    Raises:
        UserError: unknown key, a value of another type than the previous one, a variable that nothing depends on.
    """
    variables: list[tuple[str, str]] = []
    direct: list[tuple[str, str]] = []
    for key, text in options:
        first = key.partition('.')[0]
        if first in _BY_FLAG:
            raise UserError(f'--cfg-options {key}: is not taken from the config; give {_BY_FLAG[first]}')
        (variables if is_variable(cfg, first) else direct).append((key, text))
    if variables:
        cfg = read_with_variables(cfg, [(key, _value(cfg, key, text, [])) for key, text in variables])
    created: list[str] = []
    for key, text in direct:
        try:
            cfg.merge_from_dict({key: _value(cfg, key, text, created)})
        except (KeyError, TypeError, IndexError) as error:
            raise UserError(f'--cfg-options {key}={text}: {" ".join(str(error).split())[:200]}') from None
    return cfg


def report_unread(options: Sequence[tuple[str, str]], unread: Collection[str], command: str) -> None:
    """Print one line that names the options that have no effect because the command does not read them, if any."""
    keys = [key for key, _ in options if key.partition('.')[0] in unread]
    if keys and os.environ.get('RANK', '0') == '0':
        parts = sorted({key.partition('.')[0] for key in keys})
        twins = sorted({re.sub('^(val|train)_', 'test_', part) for part in parts} - set(unread) - {'test_cfg'})
        remedy = f'; it reads {", ".join(twins)}' if command != 'train.py' and twins else ''
        print(f'--cfg-options {" ".join(keys)}: without effect, {command} does not read {", ".join(parts)}{remedy}',
              flush=True)


def parse_value(text: str) -> Any:
    """Parse a value: a number, True, None, a list, a tuple, a dict, ``dict(...)`` or JSON, otherwise a string.

    Words need no quotes: ``[cat,dog]``, ``dict(type=EMAHook)``. Values separated by commas without brackets are a list.

    Raises:
        ValueError: the brackets are not balanced, or a dict cannot be parsed.
    """
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in '\'"' and text[0] not in text[1:-1]:
        text = text[1:-1]
    try:
        node = ast.parse(text, mode='eval').body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return _unparsed(text)
    if isinstance(node, ast.Tuple) and (not node.elts or node.elts[0].col_offset == 0) and text != '()':
        return [_evaluate(element, text) for element in node.elts]
    return _evaluate(node, text)


def _unparsed(text: str) -> Any:
    """Parse a text that is not valid Python, such as the path ``data/2021/01``, alone or in a list."""
    if text.startswith('{') or re.search(r'\bdict\(', text):
        raise ValueError('cannot be read as a dict; write dict(key=value) or JSON, and quote strings that are not '
                         'plain words')
    if not text.startswith(('(', '[')) and ',' not in text:
        return DictAction._parse_int_float_bool(text)
    try:
        return DictAction._parse_iterable(text)
    except (AssertionError, RecursionError):
        raise ValueError('the brackets are not balanced') from None


def _evaluate(node: ast.expr, text: str) -> Any:
    match node:
        case ast.Constant(value=value) if value is None or isinstance(value, (bool, int, float, str)):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)) if isinstance(value, (int, float)):
            return -value
        case ast.Name(id=name):
            # inf and nan are numbers, other words strings
            return _WORDS.get(name, DictAction._parse_int_float_bool(name))
        case ast.List(elts=elements):
            return [_evaluate(element, text) for element in elements]
        case ast.Tuple(elts=elements):
            return tuple(_evaluate(element, text) for element in elements)
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {_evaluate(key, text): _evaluate(value, text) for key, value in zip(keys, values) if key}
        case ast.Call(func=ast.Name(id='dict'), args=[], keywords=keywords) if all(word.arg for word in keywords):
            return {word.arg: _evaluate(word.value, text) for word in keywords}
    source = ast.get_source_segment(text, node) or text
    if source.startswith('{') or re.search(r'\bdict\(', source):
        raise ValueError('cannot be read as a dict; write dict(key=value) or JSON')
    return source  # a path, a date, 1/80


def _value(cfg: Config, key: str, text: str, created: list[str]) -> Any:
    """Return the value of an option. Raise UserError if the key is unknown or the previous value has another type."""
    former = _look_up(cfg, key, created)
    try:
        value = parse_value(text)
    except ValueError as error:
        raise UserError(f'--cfg-options {key}={text}: {error}') from None
    last = key.rpartition('.')[2]
    wanted = None
    match former:
        case bool():
            wanted = None if isinstance(value, (int, float)) else 'True or False'
        case int() | float():
            if isinstance(value, str) and (fraction := re.fullmatch(r'([\d.e-]+)/([\d.e-]+)', value)):
                value = float(fraction[1]) / float(fraction[2])
            wanted = 'a number' if isinstance(value, (str, list, tuple, dict)) else None
        case dict():
            wanted = None if isinstance(value, dict) else 'a dict'
        case list() | tuple() if isinstance(value, dict) and 'type' in value:
            value = [value]  # a list of one scheduler or hook
        case list() | tuple():
            wanted = None if isinstance(value, (list, tuple, dict)) else f'a list, such as {former!r:.80}'
        case str() if isinstance(value, (bool, int, float)):
            value = text  # such as a folder named 2021
        case None:
            wanted = ('a dict' if last in _DICTS and not isinstance(value, dict) else
                      'a list of dicts' if last in _LISTS and not isinstance(value, list) else None)
    if wanted and value is not None:
        raise UserError(f'config key {key}: {value!r} must be {wanted}')
    return value


def _look_up(cfg: Config, key: str, created: list[str]) -> Any:
    """Return the previous value, or None if there is none. Raise UserError if the config cannot have the key.

    Keys that the config gets are appended to ``created``; below them, any key is accepted.
    """
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
            if not any(key.startswith(f'{former}.') for former in created):
                _check_new_key(node, part, key, seen)
                created.append('.'.join([*seen, part]))
            node.pop(part, None)  # a new value cannot be merged into None
            return None
        else:
            raise UserError(f'--cfg-options {key}: {".".join(seen)} is {node!r}, it has no keys')
        seen.append(part)
    return node


def _check_new_key(node: ConfigDict, part: str, key: str, seen: list[str]) -> None:
    if not seen:
        accepted: set[str] | None = TOP_LEVEL
    elif 'type' in node:
        arguments = [arguments_of(found) for found in find_types(node['type'], '.'.join(seen))]
        accepted = None if None in arguments else set().union(*filter(None, arguments))
    else:
        accepted = set()
    if part not in node and accepted is not None and part not in accepted:
        known = sorted((set(node) | accepted) - BUILDERS_OWN - {'self'})
        raise UserError(f'--cfg-options {key}: the config has no key {".".join([*seen, part])!r}'
                        f'{did_you_mean(part, known)}')
