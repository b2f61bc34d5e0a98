"""Reading weights safely and strictly: every checkpoint of this project passes through here.

Called by the runner (``--load_from``, ``--resume_from``, testing), by ``init_model`` and, as the initialiser
``Pretrained``, by backbones. A file can never run code: it is read with ``weights_only=True`` and nothing is added to
what torch allows except ``argparse.Namespace``, a plain record that MAE's own training files carry.
"""
from __future__ import annotations

import argparse
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.model.weight_init import PretrainedInit
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from mmdet.download import fetch
from mmdet.errors import UserError, shortened
from mmdet.zoo import find_weights, near_names

# keys of complete pre-training files that a detector's backbone has no use for: MAE's decoder, classifiers of ImageNet
_PRETRAINING_ONLY = re.compile(r'^(decoder_|mask_token$|fc\.|head\.|fc_norm\.)')


def is_whole(path: Path) -> bool:
    """Whether a checkpoint of torch's zip format has its end (a truncated one lacks it)."""
    return path.is_file() and zipfile.is_zipfile(path)


def newest_whole_checkpoint(folder: str | os.PathLike) -> Path | None:
    """The last written complete ``epoch_*.pth`` or ``iter_*.pth`` of a folder, or None."""
    found = [path for pattern in ('epoch_*.pth', 'iter_*.pth') for path in Path(folder).glob(pattern) if is_whole(path)]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def find_checkpoint(path: str | os.PathLike, otherwise: str = '') -> Path:
    """The local file of a checkpoint: a path, or published weights, which are downloaded first where needed.

    Args:
        path: path (``~`` is expanded), ``https://`` address, ``hf://owner/repository/file`` or a name of
            :data:`mmdet.zoo.WEIGHTS`. A missing ``data/weights/FILE`` is downloaded if it is of that table.
        otherwise: how to go on without the file, for the message where there is no network.

    Raises:
        UserError: there is no such file; see also :func:`mmdet.download.fetch`.
    """
    found = Path(path).expanduser()
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
    """The file's dict, tensors on ``map_location``; raises UserError for what is missing, damaged or not plain data."""
    path = find_checkpoint(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except UnpicklingError as error:
        culprit = re.search(r'GLOBAL (\S+)|class (\S+)', str(error))
        what = next((name for name in culprit.groups() if name), '') if culprit else ''
        raise UserError(f'{path}: refused, it is not a checkpoint of plain tensors, numbers and strings'
                        + (f' (it names {what})' if what else '') + '; loading it could run code') from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or ['it ends too early'])[0][:150]
        remedy = _alternative(path) or '; fetch or copy it again'
        raise UserError(f'{path}: damaged or not a checkpoint ({reason}){remedy}') from None
    if not isinstance(checkpoint, dict):
        raise UserError(f'{path}: holds a {type(checkpoint).__name__}, not a dict of weights')
    return checkpoint


def weights_of(checkpoint: Mapping, source: str | os.PathLike) -> dict[str, Tensor]:
    """The weights of a published file (``state_dict``), of MAE's or timm's (``model``), or of a plain dict.

    A prefix ``module.`` that every key carries is taken off. Raises UserError if there is no weight.
    """
    for key in ('state_dict', 'model'):
        if isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
            break
    weights = {name: value for name, value in checkpoint.items() if isinstance(value, Tensor)}
    if not weights:
        raise UserError(f'{source}: holds no weights (neither state_dict, model nor a plain dict of tensors)')
    if all(name.startswith('module.') for name in weights):
        weights = {name.removeprefix('module.'): value for name, value in weights.items()}
    return weights


def is_backbone_only(weights: Iterable[str], model: nn.Module) -> bool:
    """Whether keys are those of the model's bare backbone (MAE, torchvision, timm files), none of the model itself."""
    parts = tuple(f'{name}.' for name, _ in model.named_children())
    return hasattr(model, 'backbone') and not any(name.startswith(parts) for name in weights)


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], source: str | os.PathLike) -> None:
    """Copies weights into a module; missing, unexpected and wrongly shaped keys are one UserError.

    A part that knows other names for its weights has a method ``convert_weights``: weights in, weights under its own
    names out.
    """
    weights = _converted(module, weights)
    own = module.state_dict()
    missing = [name for name in own if name not in weights]
    unexpected = [name for name in weights if name not in own]
    shapes = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    if missing or unexpected or shapes:
        faults = [f'{len(names)} {kind}: {shortened(described)}' for kind, names, described in (
            ('missing', missing, missing), ('unexpected', unexpected, unexpected),
            ('of wrong shape', shapes, [f'{name} (file {tuple(weights[name].shape)}, model {tuple(own[name].shape)})'
                                        for name in shapes])) if names]
        raise UserError(f'{source} does not fit {type(module).__name__}: ' + '; '.join(faults)
                        + _remedy(own, weights, missing, unexpected, shapes))
    module.load_state_dict(weights)


def _converted(module: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    weights = dict(weights)
    for name, part in module.named_modules():
        if hasattr(part, 'convert_weights'):
            prefix = f'{name}.' if name else ''
            mine = {key.removeprefix(prefix): weights.pop(key) for key in list(weights) if key.startswith(prefix)}
            weights |= {f'{prefix}{key}': value for key, value in part.convert_weights(mine).items()}
    return weights


def _remedy(own: Mapping, weights: Mapping, missing: list, unexpected: list, shapes: list) -> str:
    patches = next((name for name in shapes if name.endswith('patch_embed.proj.weight')
                    and own[name].shape[2:] != weights[name].shape[2:]), None)
    if patches:
        return (f'. The patch sizes differ: the file has {weights[patches].shape[-1]} pixels, the config '
                f'{own[patches].shape[-1]} (backbone.patch_size); use weights with patches of that size, or start from '
                'random ones with --cfg-options model.backbone.init_cfg=None')
    classes = [name for name in shapes if 'cls' in name.split('.')[-2] or name.split('.')[-2].startswith('fc_')]
    if classes and len(classes) == len(shapes) and not missing and not unexpected:
        file_count, own_count = len(weights[classes[0]]), len(own[classes[0]])
        return (f'. The class counts differ: the file has {file_count}, the config {own_count}; use the config of the '
                'data set that the file was trained on')
    return '. Use the config that the file was trained with'


def load_backbone_weights(backbone: nn.Module, weights: Mapping[str, Tensor], source: str | os.PathLike) -> None:
    """Loads pre-trained weights of a bare backbone.

    What only pre-training needs (MAE's decoder, a classifier) is skipped, and said to be.
    Also takes the backbone out of a whole detector's weights. Raises UserError if anything else does not fit.
    """
    inner = {name.removeprefix('backbone.'): value for name, value in weights.items() if name.startswith('backbone.')}
    weights = inner or dict(weights)
    own = backbone.state_dict()
    skipped = [name for name in weights if name not in own and _PRETRAINING_ONLY.match(name)]
    for name in skipped:
        del weights[name]
    # files older than batch norm's step counters lack them; nothing reads them here
    for name, value in own.items():
        if name.endswith('num_batches_tracked'):
            weights.setdefault(name, value)
    load_weights(backbone, weights, source)
    if skipped and is_main_process():
        print_log(f'{source}: {len(skipped)} keys that only pre-training needs are ignored: {shortened(skipped)}',
                  'current')


def load_model(model: nn.Module, source: str | os.PathLike, checkpoint: Mapping | None = None, *,
               allow_backbone: bool = False) -> None:
    """Loads a whole detector from a file (or from its dict, if already read), strictly.

    Args:
        model: the detector.
        source: the file, for reading and for messages.
        checkpoint: what :func:`read_checkpoint` returned, if the caller has read the file.
        allow_backbone: accept a file with a bare backbone (training starts from it); otherwise that is a UserError.
    """
    weights = weights_of(read_checkpoint(source) if checkpoint is None else checkpoint, source)
    if not is_backbone_only(weights, model):
        load_weights(model, weights, source)
    elif allow_backbone:
        load_backbone_weights(model.get_submodule('backbone'), weights, source)
        print_log(f'{source} holds a backbone only: the other parts keep their initial weights', 'current')
    else:
        raise UserError(f'{source} holds a backbone only, not a trained {type(model).__name__}: train first '
                        f'(train.py CONFIG --load_from {source})')


@WEIGHT_INITIALIZERS.register_module(name='Pretrained', force=True)
class StrictPretrainedInit(PretrainedInit):
    """``init_cfg=dict(type='Pretrained', checkpoint=FILE)``: mmengine's, but safe and strict.

    Args:
        checkpoint: file with the weights of the module, of a detector that has it as its backbone, or MAE's.
    """

    def __init__(self, checkpoint: str) -> None:
        super().__init__(checkpoint)

    def __call__(self, module: nn.Module) -> None:
        load_backbone_weights(module, weights_of(read_checkpoint(self.checkpoint), self.checkpoint), self.checkpoint)
        print_log(f'{type(module).__name__} starts from {self.checkpoint}', 'current')
