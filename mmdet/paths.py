"""Listing of files and folders in natural order and without hidden ones, globs, and names of output files.

Used wherever folders of the user are listed: videos, converters of data sets.
"""
from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection
from pathlib import Path

IMAGE_ENDINGS = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm', '.jp2')
NAME_BYTES = 200  # file systems allow 255; the rest is for suffixes and for the names of partial files
NAME_LENGTH = 100  # characters


def natural_key(path: str | os.PathLike) -> tuple:
    """Return a sort key that compares numbers in names by value: ``frame9`` before ``frame10``, ``9`` before ``a``.

    Args:
        path: a name or a path. Names that differ only in leading zeros are compared as text.
    """
    text = os.fspath(path)
    # Numbers are compared by their length without leading zeros, then as text, because int() takes at most 4300 digits.
    parts = [(1, len(part.lstrip('0')), part.lstrip('0')) if place % 2 else (2, 0, part)
             for place, part in enumerate(re.split('([0-9]+)', text)) if part]
    return parts, text


def is_hidden(path: str | os.PathLike) -> bool:
    """Return whether the name starts with a dot, as ``._frame.jpg`` (macOS) and ``.ipynb_checkpoints`` (Jupyter) do."""
    return os.path.basename(os.fspath(path).rstrip('/')).startswith('.')


def visible_files(folder: str | os.PathLike, endings: Collection[str] = IMAGE_ENDINGS) -> list[Path]:
    """Return the files of a folder that have one of the suffixes, in natural order.

    The suffixes are given in lower case; those of the files may have any case. Hidden files are left out, because those
    that macOS creates (``._x.jpg``) are not images.
    """
    return sorted((path for path in Path(folder).iterdir()
                   if path.suffix.lower() in endings and not is_hidden(path) and path.is_file()), key=natural_key)


def visible_folders(folder: str | os.PathLike) -> list[Path]:
    """Return the folders in a folder, in natural order, without hidden ones (``.ipynb_checkpoints``)."""
    return sorted((path for path in Path(folder).iterdir() if not is_hidden(path) and path.is_dir()), key=natural_key)


def match_paths(pattern: str | os.PathLike) -> list[Path]:
    """Return the files and folders that a glob matches, in natural order and without hidden ones.

    ``**`` matches any number of folders. Leading folders that exist are taken literally, so that ``vid[1]/*.jpg`` finds
    the images in ``vid[1]``.
    """
    literal = Path(pattern).expanduser()
    wild: list[str] = []
    while not os.path.lexists(literal) and literal != literal.parent:
        wild.insert(0, literal.name)
        literal = literal.parent
    found = glob.glob(os.path.join(glob.escape(str(literal)), *wild), recursive=True)
    return sorted((Path(match) for match in found if not is_hidden(match)), key=natural_key)


def output_name(text: str, default: str) -> str:
    """Return a name for output files: letters, digits and ``.-_`` of the text are kept, others become ``_``.

    Args:
        text: any text, such as the name of a video.
        default: returned if no character of the text is left.

    Returns:
        A name of at most 100 characters and 200 bytes, so that every file system accepts it with a suffix.
    """
    name = re.sub(r'[^\w.-]+', '_', text).strip('._')[:NAME_LENGTH]
    return name.encode()[:NAME_BYTES].decode(errors='ignore').rstrip('._') or default


def shown(path: str | os.PathLike) -> str:
    """Return the path for a message: bytes that are not UTF-8 are escaped, so that every terminal can print it."""
    return os.fspath(path).encode(errors='backslashreplace').decode()


def is_utf8(path: str) -> bool:
    """Return whether the path's bytes are UTF-8; some libraries accept no other paths."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
