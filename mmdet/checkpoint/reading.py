"""Find and read checkpoint files. No file can execute code.

``torch.load`` is called with ``weights_only=True``. Two additional classes are allowed: ``argparse.Namespace``, a plain
record in the files of MAE's training; and the inert placeholder :class:`Unread` for the classes of mmengine's message
hub and of NumPy, which are part of every checkpoint of mmengine but not needed here. A safetensors file contains only
tensors.
"""
from __future__ import annotations

import argparse
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from mmdet.download import fetch
from mmdet.errors import UserError
from mmdet.shipped import find_shipped
from mmdet.zoo import find_weights, near_names

_SAFETENSORS = '.safetensors'
EXPORT_ENDINGS = {'torch': '.pt2', 'onnx': '.onnx'}  # of the files of tools/export.py, by format


class Unread:
    """Placeholder for an object of a checkpoint that is not read: accepts any arguments and state, keeps nothing."""

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


# classes that replace those named in checkpoints of mmengine's runner
_STAND_INS = {
    **dict.fromkeys(('mmengine.logging.history_buffer.HistoryBuffer', 'mmengine.logging.message_hub.MessageHub',
                     'builtins.getattr',  # refers to the methods of HistoryBuffer
                     'numpy.ndarray', 'numpy.dtype',
                     *(f'numpy.{core}.multiarray.{name}' for core in ('core', '_core')
                       for name in ('_reconstruct', 'scalar'))), Unread),
    'mmengine.config.config.ConfigDict': dict,
}


def is_whole(path: Path) -> bool:
    """Return whether a checkpoint in torch's zip format has its end, which is missing in a truncated file."""
    return path.is_file() and zipfile.is_zipfile(path)


def newest_whole_checkpoint(folder: str | os.PathLike) -> Path | None:
    """Return the complete ``epoch_*.pth`` or ``iter_*.pth`` of a folder that was written last, or None."""
    found = [path for pattern in ('epoch_*.pth', 'iter_*.pth') for path in Path(folder).glob(pattern) if is_whole(path)]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def is_exported(checkpoint: object) -> bool:
    """Return whether a checkpoint is given as an exported network (:mod:`mmdet.export`), by its ending."""
    return isinstance(checkpoint, (str, os.PathLike)) and Path(checkpoint).suffix in EXPORT_ENDINGS.values()


def find_checkpoint(path: str | os.PathLike, otherwise: str = '') -> Path:
    """Return the local path of a checkpoint; download published weights first if needed.

    Args:
        path: path (``~`` is expanded), ``https://`` address, ``hf://owner/repository/file`` or a name in
            :data:`mmdet.zoo.WEIGHTS`. A missing ``data/weights/FILE`` is downloaded if it is in that table.
        otherwise: alternative to the file for the error message if there is no network.

    Raises:
        UserError: the file does not exist, or is an exported network; see also :func:`mmdet.download.fetch`.
    """
    found = find_shipped(path)
    if is_exported(found):
        raise UserError(f'{path}: is an exported network, which only VideoInferencer, video_demo.py, serve.py and '
                        'web_demo.py run; give the checkpoint from which it was exported')
    if found.is_file():
        return found
    weights = find_weights(path)
    if weights is None:
        remedy = _alternative(found) or near_names(str(path)) or '; check the path'
        raise UserError(f'{path}: no such checkpoint file{remedy}')
    return fetch(weights, otherwise)


def _alternative(path: Path) -> str:
    newest = newest_whole_checkpoint(path.parent) if path.parent.is_dir() else None
    return f'; the newest whole checkpoint beside it is {newest}' if newest and newest != path else ''


def read_checkpoint(path: str | os.PathLike, map_location: str | torch.device | Callable = 'cpu') -> dict:
    """Return the content of a checkpoint file of torch or safetensors.

    Args:
        path: see :func:`find_checkpoint`.
        map_location: device of the tensors, as in ``torch.load``; if it is a function, tensors of safetensors files
            stay on the CPU.

    Raises:
        UserError: the file is missing, damaged, or contains other objects than tensors and plain data.
    """
    path = find_checkpoint(path)
    if path.suffix == _SAFETENSORS:
        return _read_safetensors(path, 'cpu' if callable(map_location) else str(map_location))
    try:
        allowed: list = [argparse.Namespace, *((stand_in, name) for name, stand_in in _STAND_INS.items())]
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'Detected pickle protocol', UserWarning)  # the error below says more
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except UnpicklingError as error:
        culprit = re.search(r'GLOBAL (\S+)|class (\S+)', str(error))
        what = next((name for name in culprit.groups() if name), '') if culprit else ''
        raise UserError(f'{path}: refused, it is not a checkpoint of plain tensors, numbers and strings'
                        + (f' (it names {what})' if what else '') + '; loading it could run code. If you trust it, '
                        "save its weights alone, torch.save({'state_dict': ...}), with the program that wrote it"
                        ) from None
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # the unpickler interprets damaged bytes as instructions, which may raise anything
        raise _damaged(path, error) from None
    if not isinstance(checkpoint, dict):
        raise UserError(f'{path}: holds a {type(checkpoint).__name__}, not a dict of weights')
    _drop_unread(checkpoint)
    return checkpoint


def _drop_unread(content: Any) -> None:
    """Remove the placeholders from nested dicts and lists in place. In a malicious file, a list may contain itself."""
    waiting, seen = [content], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen or not isinstance(node, (dict, list, tuple)):
            continue
        seen.add(id(node))
        if isinstance(node, dict):
            for key in [key for key, value in node.items() if isinstance(value, Unread)]:
                del node[key]
        elif isinstance(node, list):
            node[:] = [value for value in node if not isinstance(value, Unread)]
        waiting += node.values() if isinstance(node, dict) else node


def _read_safetensors(path: Path, device: str) -> dict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    try:
        return load_file(path, device=device)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> UserError:
    reason = (str(error).splitlines() or ['it ends too early'])[0][:150]
    remedy = _alternative(path) or '; fetch or copy it again'
    return UserError(f'{path}: damaged or not a checkpoint ({reason}){remedy}')


def weights_of(checkpoint: Mapping, source: str | os.PathLike) -> dict[str, Tensor]:
    """Return the weights of a checkpoint: its ``state_dict``, its ``model`` (MAE, timm), or the checkpoint itself.

    Raises:
        UserError: there are no weights.
    """
    for key in ('state_dict', 'model'):
        if isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
            break
    weights = {name: value for name, value in checkpoint.items() if isinstance(value, Tensor)}
    if not weights:
        raise UserError(f'{source}: holds no weights (neither state_dict, model nor a plain dict of tensors)')
    return weights


def trained_classes(checkpoint: Mapping) -> tuple[str, ...]:
    """Return the names of the classes that a checkpoint was trained on, by label; empty: unknown."""
    meta = checkpoint.get('meta')
    dataset_meta = meta.get('dataset_meta') if isinstance(meta, Mapping) else None
    names = dataset_meta.get('classes') if isinstance(dataset_meta, Mapping) else None
    return tuple(names) if isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names) else ()
