"""Names of files: natural order, images and folders without hidden ones, globs, names for what is written.

Called wherever a user's folders are listed: videos, converters of data sets.
"""
from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection
from pathlib import Path

IMAGE_ENDINGS = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm', '.jp2')
NAME_BYTES = 200  # file systems take 255; the rest is for endings, and for the prefix and the ending of partial files
NAME_LENGTH = 100  # characters


def natural_key(path: str | os.PathLike) -> tuple:
    """Sort key that compares the numbers in names by value: ``frame9`` before ``frame10``, ``9`` before ``a``.

    Args:
        path: a name or a path. Names that differ only in leading zeros are compared as text.
    """
    text = os.fspath(path)
    # digits are compared by their number, then as text: int() refuses more than 4300 of them
    parts = [(1, len(part.lstrip('0')), part.lstrip('0')) if place % 2 else (2, 0, part)
             for place, part in enumerate(re.split('([0-9]+)', text)) if part]
    return parts, text


def is_hidden(path: str | os.PathLike) -> bool:
    """Whether the name starts with a dot, as ``._frame.jpg`` of macOS and ``.ipynb_checkpoints`` of Jupyter do."""
    return os.path.basename(os.fspath(path).rstrip('/')).startswith('.')


def visible_files(folder: str | os.PathLike, endings: Collection[str] = IMAGE_ENDINGS) -> list[Path]:
    """The files of a folder with one of the endings (lower case, compared in any case), in natural order.

    Hidden files are left out: copies made by macOS (``._x.jpg``) and the like are no images.
    """
    return sorted((path for path in Path(folder).iterdir()
                   if path.suffix.lower() in endings and not is_hidden(path) and path.is_file()), key=natural_key)


def visible_folders(folder: str | os.PathLike) -> list[Path]:
    """The folders in a folder, in natural order, without hidden ones (``.ipynb_checkpoints``)."""
    return sorted((path for path in Path(folder).iterdir() if not is_hidden(path) and path.is_dir()), key=natural_key)


def match_paths(pattern: str | os.PathLike) -> list[Path]:
    """The files and folders that a glob matches, in natural order, without hidden ones; ``**`` matches any folders.

    Leading folders that exist are taken literally, so that ``vid[1]/*.jpg`` finds the images in ``vid[1]``.
    """
    literal = Path(pattern).expanduser()
    wild: list[str] = []
    while not os.path.lexists(literal) and literal != literal.parent:
        wild.insert(0, literal.name)
        literal = literal.parent
    found = glob.glob(os.path.join(glob.escape(str(literal)), *wild), recursive=True)
    return sorted((Path(match) for match in found if not is_hidden(match)), key=natural_key)


def output_name(text: str, default: str) -> str:
    """A name for files that are written: letters, digits, ``.-_`` of the text, other characters replaced.

    Args:
        text: such as the name of a video; may hold any character.
        default: where nothing of it is left.

    Returns:
        At most 100 characters and 200 bytes, so that every file system takes it with an ending.
    """
    name = re.sub(r'[^\w.-]+', '_', text).strip('._')[:NAME_LENGTH]
    return name.encode()[:NAME_BYTES].decode(errors='ignore').rstrip('._') or default


def shown(path: str | os.PathLike) -> str:
    """The path for a message: bytes that are no UTF-8 are escaped, so that every terminal and log takes it."""
    return os.fspath(path).encode(errors='backslashreplace').decode()


def is_utf8(path: str) -> bool:
    """Whether the path's bytes are UTF-8; some libraries take no others."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
