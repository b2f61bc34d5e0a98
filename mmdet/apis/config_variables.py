"""Variables of config files: names such as ``data_root`` and ``test_pipeline`` that the files build other values from.

A config that has been read no longer knows what was built from a variable. So the files are read once more, from
copies in which the variable has the new value wherever it is assigned. Called for ``--cfg-options``.
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
    """Whether a top-level name of the config is read by nothing but the config's own files."""
    return name in cfg and name not in TOP_LEVEL and not name.startswith('_') and name != 'custom_imports'


def read_with_variables(cfg: Config, edits: Sequence[tuple[str, Any]]) -> Config:
    """The config that its files give when their variables have these values.

    Args:
        cfg: what the files give as they are.
        edits: dotted keys, which begin with the name of a variable, and values of plain data.

    Raises:
        UserError: a variable that nothing else is built from, or files that cannot be read in this way.
    """
    for key, value in edits:
        alone = _read(cfg, [(key, value)])
        name = key.partition('.')[0]
        if alone[name] != cfg[name] and _without(alone, name) == _without(cfg, name):
            raise UserError(f'--cfg-options {key}: nothing in {cfg.filename} is built from {name!r}'
                            + _instead(cfg, key))
    changed = _read(cfg, edits)
    return Config(changed._cfg_dict, cfg_text=cfg.text, filename=cfg.filename, env_variables=cfg.env_variables)


def _without(cfg: Config, name: str) -> dict:
    return {key: value for key, value in cfg._cfg_dict.items() if key != name}


def _instead(cfg: Config, key: str) -> str:
    """The keys of the config that end as the option's does."""
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
    except Exception as error:  # a config is a program: anything may go wrong in it
        keys = ' '.join(key for key, _ in edits)
        raise UserError(f'--cfg-options {keys}: {cfg.filename} cannot be read with this value: '
                        f'{type(error).__name__}: {" ".join(str(error).split())[:200]}') from error


def _copy(path: Path, edits: Sequence[tuple[str, Any]], folder: Path) -> Path:
    """Copy a file, and those that it is based on, with the edits behind each assignment of their variables."""
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
    # a folder of its own for each: the names stay, which configs may read
    copy = Path(tempfile.mkdtemp(dir=folder)) / path.name
    copy.write_text('\n'.join([*lines, '']), encoding='utf-8')
    return copy


def _assigned(statement: ast.stmt) -> set[str]:
    """Names that a statement of a file's top level gives a value to."""
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _assignment(key: str, value: Any) -> list[str]:
    name, *parts = key.split('.')
    target = name + ''.join(f'[{part}]' if part.isdecimal() else f'[{part!r}]' for part in parts)
    # of several files, one may hold another list, which the last one replaces
    return [f'try: {target} = {value!r}', 'except (KeyError, IndexError, TypeError): pass']
