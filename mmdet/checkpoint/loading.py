"""Load weights into models strictly: missing, unexpected and wrongly shaped keys raise one error.

There are two exceptions at the start of a training, which are logged in one line each: class layers of a detector with
other classes (:mod:`mmdet.checkpoint.class_layers`), and keys of a backbone that only pre-training needs.
"""
from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.model.weight_init import PretrainedInit
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from mmdet.checkpoint.class_layers import class_counts, fit_class_layers
from mmdet.checkpoint.reading import read_checkpoint, trained_classes, weights_of
from mmdet.errors import UserError, counted, shortened

# prefixes that wrappers add to the names of a model: data parallel, torch.compile, Lightning, detectors of mmtracking
_WRAPPERS = ('module', '_orig_mod', 'model', 'detector')
# keys of pre-training files that the backbone of a detector does not need: MAE's decoder, ImageNet classifiers
_PRETRAINING_ONLY = re.compile(r'^(decoder_|mask_token$|fc\.|head\.|fc_norm\.)')


def load_model(model: nn.Module, source: str | os.PathLike, checkpoint: Mapping | None = None) -> None:
    """Load a whole trained detector strictly.

    Args:
        model: the detector.
        source: path of the file; its name in messages.
        checkpoint: result of :func:`read_checkpoint`; None: the file is read.

    Raises:
        UserError: a key does not fit, or the file contains a backbone only.
    """
    weights = _own_names(model, weights_of(read_checkpoint(source) if checkpoint is None else checkpoint, source),
                         source)
    if is_backbone_only(weights, model):
        raise UserError(f'{source} holds a backbone only, not a trained {type(model).__name__}: train first '
                        f'(train.py CONFIG --load_from {source})')
    _load_strictly(model, weights, source)


def load_initial_weights(model: nn.Module, source: str | os.PathLike, checkpoint: Mapping | None = None,
                         classes: Sequence[str] = ()) -> None:
    """Load the initial weights of a training: those of a backbone or of a detector, possibly with other classes.

    Args:
        model: the detector with its initial weights.
        source: path of the file; its name in messages.
        checkpoint: result of :func:`read_checkpoint`; None: the file is read.
        classes: names of the classes to train by label; empty: unknown.

    Raises:
        UserError: a key does not fit, except in class layers.
    """
    checkpoint = read_checkpoint(source) if checkpoint is None else checkpoint
    weights = _own_names(model, weights_of(checkpoint, source), source)
    if is_backbone_only(weights, model):
        load_backbone_weights(model.get_submodule('backbone'), weights, source)
        _log(f'{source} holds a backbone only: the other parts keep their initial weights')
        return
    weights, remark = fit_class_layers(model, weights, trained_classes(checkpoint), classes)
    _load_strictly(model, weights, source)
    if remark:
        _log(f'{source}: {remark}')


def load_backbone_weights(backbone: nn.Module, weights: Mapping[str, Tensor], source: str | os.PathLike) -> None:
    """Load the pre-trained weights of a backbone, or the backbone of a whole detector.

    Keys that only pre-training needs (MAE's decoder, a classifier) are skipped and logged. A backbone may convert the
    weights in a method ``adapt_pretrained``, which returns them and a list of remarks on its changes.

    Raises:
        UserError: another key does not fit.
    """
    weights = _without_wrappers(backbone, weights, source)
    inner = {name.removeprefix('backbone.'): value for name, value in weights.items() if name.startswith('backbone.')}
    weights = inner or weights
    own = backbone.state_dict()
    skipped = [name for name in weights if name not in own and _PRETRAINING_ONLY.match(name)]
    for name in skipped:
        del weights[name]
    # files from before batch norm counted its steps lack the counters; they are not used
    for name, value in own.items():
        if name.endswith('num_batches_tracked'):
            weights.setdefault(name, value)
    remarks = []
    if skipped:
        remarks.append(f'ignored: {counted(len(skipped), "key")} that only pre-training needs: {shortened(skipped)}')
    adapt: Callable[[Mapping[str, Tensor]], tuple[dict[str, Tensor], list[str]]] | None = getattr(
        backbone, 'adapt_pretrained', None)
    if adapt is not None:
        weights, changes = adapt(weights)
        remarks += changes
    load_weights(backbone, weights, source)
    for remark in remarks:
        _log(f'{source}: {remark}')


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], source: str | os.PathLike) -> None:
    """Load weights into a module; missing, unexpected and wrongly shaped keys raise one UserError.

    A submodule that supports other names for its weights has a method ``convert_weights``, which returns the weights
    under its own names.
    """
    _load_strictly(module, _converted(module, weights), source)


def is_backbone_only(weights: Iterable[str], model: nn.Module) -> bool:
    """Return whether the keys are those of a backbone alone, as in files of MAE, torchvision and timm."""
    parts = tuple(f'{name}.' for name, _ in model.named_children())
    return hasattr(model, 'backbone') and not any(name.startswith(parts) for name in weights)


def _log(text: str) -> None:
    if is_main_process():
        print_log(text, 'current')


def _own_names(model: nn.Module, weights: Mapping[str, Tensor], source: str | os.PathLike) -> dict[str, Tensor]:
    return _converted(model, _without_wrappers(model, weights, source))


def _without_wrappers(module: nn.Module, weights: Mapping[str, Tensor], source: str | os.PathLike) -> dict[str, Tensor]:
    """Remove prefixes such as ``module.model.`` from the names, but not names of submodules of the module itself."""
    own = {name for name, _ in module.named_children()}
    renamed: dict[str, Tensor] = {}
    prefixes: Counter[str] = Counter()
    for name, value in weights.items():
        short = name
        while (first := short.partition('.')[0]) in _WRAPPERS and first not in own:
            short = short.partition('.')[2]
        if short in renamed or (short != name and short in weights):
            raise UserError(f'{source}: holds {name} as well as {short}, so it is not clear which to take; save the '
                            'weights of one of them alone')
        prefixes[name.removesuffix(short)] += 1
        renamed[short] = value
    for prefix, count in prefixes.items():
        if prefix:
            _log(f'{source}: the prefix {prefix!r} of {counted(count, "key")} is removed')
    return renamed


def _converted(module: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    weights = dict(weights)
    for name, part in module.named_modules():
        if hasattr(part, 'convert_weights'):
            prefix = f'{name}.' if name else ''
            mine = {key.removeprefix(prefix): weights.pop(key) for key in list(weights) if key.startswith(prefix)}
            weights |= {f'{prefix}{key}': value for key, value in part.convert_weights(mine).items()}
    return weights


def _load_strictly(module: nn.Module, weights: Mapping[str, Tensor], source: str | os.PathLike) -> None:
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
                        + _remedy(module, weights, shapes, [*missing, *unexpected]))
    module.load_state_dict(weights)


def _remedy(module: nn.Module, weights: Mapping[str, Tensor], shapes: Sequence[str], other_names: Sequence[str]) -> str:
    own = module.state_dict()
    patches = next((name for name in shapes if name.endswith('patch_embed.proj.weight')), None)
    if patches and own[patches].shape[2:] != weights[patches].shape[2:]:
        return (f'. The patch sizes differ: the file has {weights[patches].shape[-1]} pixels, the config '
                f'{own[patches].shape[-1]} (backbone.patch_size); use weights with patches of that size, or start from '
                'random ones with --cfg-options model.backbone.init_cfg=None')
    if patches and len(own[patches]) != len(weights[patches]):
        return (f'. The widths differ: the file has {len(weights[patches])} channels, the config {len(own[patches])} '
                '(backbone.embed_dims); use weights of that size, or a config whose backbone has the size of the file')
    prefix, memory, _ = [*shapes, *other_names][0].partition('.mem.')
    if memory and all(name.startswith(f'{prefix}.mem.') for name in [*shapes, *other_names]):
        counts = [len(part.get(f'{prefix}.mem.feat_units.weight', ())) for part in (weights, own)]
        return (f'. The memories differ: the file has {counted(counts[0], "unit")}, the config {counts[1]}; set '
                f'model.{prefix}.num_units (0: no memory) and model.{prefix}.memory.per_level (True: so many units for '
                'each level) as in the training of the file')
    layers, file_count, own_count = class_counts(module, weights)
    if shapes and set(shapes) <= set(layers) and not other_names:
        return (f'. The class counts differ: the file has {file_count}, the config {own_count}; use the config of the '
                'data set that the file was trained on')
    return '. Use the config that the file was trained with'


@WEIGHT_INITIALIZERS.register_module(name='Pretrained', force=True)
class StrictPretrainedInit(PretrainedInit):
    """Safe and strict replacement of mmengine's ``init_cfg=dict(type='Pretrained', checkpoint=FILE)``.

    Args:
        checkpoint: file with the weights of the module, of a detector with this backbone, or of MAE; see
            :func:`mmdet.checkpoint.find_checkpoint`.
    """

    def __init__(self, checkpoint: str) -> None:
        super().__init__(checkpoint)

    def __call__(self, module: nn.Module) -> None:
        load_backbone_weights(module, weights_of(read_checkpoint(self.checkpoint), self.checkpoint), self.checkpoint)
        _log(f'{type(module).__name__} starts from {self.checkpoint}')
