"""Files of the project beside the package: configs, tools, the shipped checkpoint and the sample clip.

In a clone they are beside ``mmdet``. A wheel carries them in ``mmdet/.mim``, as the packages of OpenMMLab do. Called by
the command lines and the readers of configs, checkpoints and videos, so that a shipped file is found under the same
relative path, such as ``configs/memcnp_toy.py``, from any working directory.
"""
from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_IN_WHEEL = _PACKAGE / '.mim'
PROJECT = _IN_WHEEL if _IN_WHEEL.is_dir() else _PACKAGE.parent
CONFIGS = PROJECT / 'configs'
_FOLDERS = ('configs', 'checkpoints', 'data')  # of the files that users name; setup.py copies them into the wheel


def find_shipped(path: str | os.PathLike) -> Path:
    """Return a path (``~`` is expanded), or that of the shipped file of this name if there is no such path.

    Args:
        path: any path. ``configs/...``, ``checkpoints/...`` and ``data/...`` that do not exist relative to the current
            folder are looked up in the project.
    """
    given = Path(path).expanduser()
    if not given.is_absolute() and given.parts[:1] and given.parts[0] in _FOLDERS and not given.exists():
        shipped = PROJECT / given
        if shipped.is_file() and '..' not in given.parts:
            return shipped
    return given


def find_config(path: str | os.PathLike) -> Path:
    """Return the path of a config, which may also be given by its name alone: ``memcnp_toy`` or ``memcnp_toy.py``."""
    given = Path(path).expanduser()
    if not given.exists() and len(given.parts) == 1:
        named = CONFIGS / f'{given.name.removesuffix(".py")}.py'
        if named.is_file():
            return named
    return find_shipped(path)


def is_config_name(text: str) -> bool:
    """Return whether a word names a config file: it ends in ``.py``, or it is the name of a shipped config."""
    return text.endswith('.py') or (not Path(text).expanduser().exists() and find_config(text).is_file()
                                    and find_config(text).parent == CONFIGS)
