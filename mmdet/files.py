"""Reading of JSON and text files, and atomic writing of files.

Results, reports, annotations and, through ``engine/atomic_backend.py``, checkpoints are written by :func:`atomic_open`.
"""
from __future__ import annotations

import codecs
import errno
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mmdet.errors import UserError


def load_json(path: str | os.PathLike) -> Any:
    """Return the content of a JSON file; raise UserError if it cannot be read or is not JSON."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror or error}); check the path') from error
    if data.startswith(b'\x1f\x8b'):
        raise UserError(f'{path}: is compressed by gzip; unpack it with gunzip')
    try:
        return json.loads(data)
    except UnicodeDecodeError as error:
        raise UserError(f'{path}: is not JSON but a binary file; check the path') from error
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path}: is not JSON ({error}); download or create it again') from error


def load_text(path: str | os.PathLike) -> str:
    """Return the content of a text file in UTF-8, with or without a byte-order mark, or in UTF-16 with one.

    Raises:
        UserError: the file cannot be read, or has another encoding.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror or error}); check the path') from error
    encoding = 'utf-16' if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else 'utf-8-sig'
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(f'{path}: byte {error.start} is not UTF-8 text (Latin-1 or another encoding?); save the file '
                        'as UTF-8') from error


def check_writable(path: str | os.PathLike, flag: str) -> None:
    """Raise UserError unless :func:`atomic_open` can create the file. To be called before long work starts.

    Nothing is changed. Missing folders are created later, so the nearest existing folder must be writable.

    Args:
        path: path of the file.
        flag: the flag with its value, for the message: ``'--out X.pkl'``.
    """
    path = Path(path)
    folder = next(parent for parent in path.parents if os.path.lexists(parent))
    trial = _partial(folder / path.name)
    try:
        with suppress(FileNotFoundError):
            os.lstat(path)  # raises OSError if the name is too long
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        trial.touch()
    except OSError as error:
        raise UserError(f'{flag}: {path} cannot be written ({error.strerror or error}, tried in {folder}); choose '
                        'another path') from error
    finally:
        with suppress(OSError):
            trial.unlink()


def _partial(path: Path) -> Path:
    """Return a hidden path beside the file. Long names are cut off, because names have at most 255 bytes."""
    name = os.fsencode(path.name)
    start = os.fsdecode(name[:180])
    return path.with_name(f'.{start}.{zlib.crc32(name):08x}.{os.getpid()}.partial')


@contextmanager
def atomic_open(path: str | os.PathLike, mode: str = 'wb') -> Iterator[IO]:
    """Open a file for writing that replaces the file at ``path`` only when it is complete and on the disk.

    Until then an earlier version stays in place. After an error the incomplete file is removed; only SIGKILL leaves a
    hidden file behind.

    Raises:
        UserError: the file cannot be written (no space, no permission).
    """
    path = Path(path)
    partial = _partial(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open(mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f'{path}: not written, the disk is full; what was written before is intact: make room, '
                            'then resume the training or repeat the command') from error
        raise UserError(f'{path}: cannot be written ({error.strerror or error}); choose another path') from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _sync_folder(path: Path) -> None:
    """Write the folder's entries to the disk, so that a new name survives a crash of the machine.

    Some shared file systems do not support this; their errors are ignored.
    """
    with suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
