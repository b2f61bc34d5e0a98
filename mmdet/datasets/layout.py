"""Find the annotation file and the image folder in the common layouts of the data sets; called by ``YVISDataset``.

For a split (train, valid, test) under the data root:

===========  ===========================================  ==========================================================
what         this project's layout                        the archives' own
===========  ===========================================  ==========================================================
images       ``<split>_images/``                          ``<split>/JPEGImages/`` or ``<split>/``
annotations  ``annotations/instances_<split>.json``,      ``<split>/instances.json``, ``<split>.json`` or the same
             OVIS ``annotations/annotations_<split>.json``  name without ``annotations/``
===========  ===========================================  ==========================================================
"""
import re
from collections.abc import Callable
from pathlib import Path

from mmdet.errors import UserError
from mmdet.paths import visible_folders

_SPLIT = re.compile(r'(?:^|_)(train|valid|test)(?:_|$)')


def find_images(data_root: str, prefix: str) -> Path:
    """Return the image folder, to which the ``file_names`` of videos are relative.

    Args:
        data_root: folder of the data set; may be empty.
        prefix: image folder, absolute or relative to ``data_root``.

    Raises:
        UserError: the folder exists in none of the layouts.
    """
    wanted = Path(data_root, prefix)
    candidates = [wanted]
    if split := _split_of(wanted.name):
        candidates += [wanted.with_name(split) / 'JPEGImages', wanted.with_name(split)]
    return _first(candidates, Path.is_dir, f'image folder {wanted}')


def find_annotations(data_root: str, ann_file: str) -> Path:
    """Return the annotation file; for arguments and errors see :func:`find_images`."""
    wanted = Path(data_root, ann_file)
    candidates = [wanted]
    if split := _split_of(wanted.stem):
        root = wanted.parent.parent if wanted.parent.name == 'annotations' else wanted.parent
        candidates += [root / wanted.name, root / split / 'instances.json', root / f'{split}.json']
    return _first(candidates, Path.is_file, f'annotation file {wanted}')


def explain_missing(folder: Path, name: str) -> str:
    """Explain in an error message why an image is missing in the image folder, and the remedy.

    Args:
        folder: the image folder.
        name: file name of the image in the annotation file.
    """
    if '\\' in name:
        return f'its name has backslashes; write {name.replace(chr(92), "/")!r} in file_names'
    inside = visible_folders(folder) if folder.is_dir() else []
    for candidate in (folder.parent, *inside, *folder.resolve().parent.glob('*/')):
        if (candidate / name).is_file() and candidate != folder:
            return f'it is in {candidate}; give that folder'
    return 'unpack the images again, or give the folder that file_names start from'


def _split_of(name: str) -> str | None:
    match = _SPLIT.search(name)
    return match and match[1]


def _first(candidates: list[Path], exists: Callable[[Path], bool], what: str) -> Path:
    for path in candidates:
        if exists(path):
            return path
    others = ', '.join(str(path) for path in candidates[1:])
    raise UserError(f'{what} does not exist' + (f', nor do {others}' if others else '')
                    + '; link the data set as data/README.md shows: either <split>_images/ and annotations/, '
                    + "or the archives' own <split>/JPEGImages/ (OVIS: <split>/)")
