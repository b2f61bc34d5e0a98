"""New values for variables of config files, such as ``data_root`` and ``test_pipeline``, from ``--cfg-options``.

Config files build other values from their variables, but a config that has been read does not record which. Therefore
the files are read again, from copies in which the variable has the new value wherever it is assigned.
"""
from __future__ import annotations

import ast
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmdet.apis.config_names import TOP_LEVEL
from mmdet.errors import UserError

_BASE = '_base_'


def is_variable(cfg: Config, name: str) -> bool:
    """Return whether a top-level name of the config is used only by the config files themselves."""
    return name in cfg and name not in TOP_LEVEL and not name.startswith('_') and name != 'custom_imports'


def read_with_variables(cfg: Config, edits: Sequence[tuple[str, Any]]) -> Config:
    """Read the config's files again with new values of their variables.

    Args:
        cfg: the config as read from the unchanged files.
        edits: pairs of a dotted key, which begins with the name of a variable, and its value of plain data.

    Raises:
        UserError: no other value is built from the variable, or the files cannot be read with the new value.
    """
    for key, value in edits:
        alone = _read(cfg, [(key, value)])
        name = key.partition('.')[0]
        if alone[name] != cfg.get(name) and _without(alone, name) == _without(cfg, name):
            raise UserError(f'--cfg-options {key}: nothing in {cfg.filename} is built from {name!r}'
                            + _instead(cfg, key))
    changed = _read(cfg, edits)
    return Config(changed._cfg_dict, cfg_text=cfg.text, filename=cfg.filename, env_variables=cfg.env_variables)


def _without(cfg: Config, name: str) -> dict:
    return {key: value for key, value in cfg._cfg_dict.items() if key != name}


def _instead(cfg: Config, key: str) -> str:
    """Return the end of a message with the keys of the config that have the same ending as the option's key."""
    name, _, rest = key.partition('.')
    ending = f'.{rest or name}'
    known = [where for where in _keys(cfg._cfg_dict, '') if where.endswith(ending) and not where.startswith(name)]
    return f'; give {" or ".join(known[:3])}' if known else ''


def _keys(node: Any, where: str) -> Iterator[str]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, child in children:
        inner = f'{where}.{key}' if where else str(key)
        yield inner
        yield from _keys(child, inner)


def _read(cfg: Config, edits: Sequence[tuple[str, Any]]) -> Config:
    try:
        with tempfile.TemporaryDirectory() as folder:
            return Config.fromfile(_copy(Path(cfg.filename), edits, Path(folder)))
    except Exception as error:  # a config is a program, which may raise any exception
        keys = ' '.join(key for key, _ in edits)
        raise UserError(f'--cfg-options {keys}: {cfg.filename} cannot be read with this value: '
                        f'{type(error).__name__}: {" ".join(str(error).split())[:200]}') from error


def _copy(path: Path, edits: Sequence[tuple[str, Any]], folder: Path) -> Path:
    """Copy a file and its ``_base_`` files, with the edits inserted after each assignment of their variables."""
    text = path.read_text(encoding='utf-8')
    lines = text.splitlines()
    for statement in reversed(ast.parse(text).body):
        names = _assigned(statement)
        first, last = statement.lineno - 1, statement.end_lineno
        if _BASE in names and isinstance(statement, ast.Assign):
            bases = ast.literal_eval(statement.value)
            copies = [base if '::' in base else str(_copy(path.parent / base, edits, folder))
                      for base in ([bases] if isinstance(bases, str) else bases)]
            lines[first:last] = [f'{_BASE} = {copies!r}']
        for key, value in edits:
            if key.partition('.')[0] in names:
                lines[last:last] = _assignment(key, value)
    # each copy is in a separate folder, so that it keeps its name, which configs may read
    copy = Path(tempfile.mkdtemp(dir=folder)) / path.name
    copy.write_text('\n'.join([*lines, '']), encoding='utf-8')
    return copy


def _assigned(statement: ast.stmt) -> set[str]:
    """Return the names that a top-level statement assigns."""
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _assignment(key: str, value: Any) -> list[str]:
    name, *parts = key.split('.')
    target = name + ''.join(f'[{part}]' if part.isdecimal() else f'[{part!r}]' for part in parts)
    # in one of several files the variable may have another structure, which a later file replaces
    return [f'try: {target} = {_source(value)}', 'except (KeyError, IndexError, TypeError): pass']


def _source(value: Any) -> str:
    """Return the Python expression of a value; ``repr`` of inf and nan is none."""
    if isinstance(value, dict):
        return '{' + ', '.join(f'{key!r}: {_source(child)}' for key, child in value.items()) + '}'
    if isinstance(value, (list, tuple)):
        return f'{type(value).__name__}([{", ".join(map(_source, value))}])'
    return f'float({str(value)!r})' if isinstance(value, float) else repr(value)
