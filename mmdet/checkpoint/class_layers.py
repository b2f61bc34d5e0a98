"""Starting a detector from one of other classes: rows of equal classes are kept, the others start anew.

A part of a model declares in ``class_layers`` which of its layers have outputs per class. Called by
:func:`mmdet.checkpoint.load_initial_weights`; testing and resuming are strict.

Symbols: K classes, R rows of a class in the first dimension of a layer's weight and bias.
"""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from mmdet.errors import shortened


@dataclass(frozen=True)
class ClassRows:
    """Order of the rows of a layer with outputs per class: the classes by label, and a background before or after.

    Args:
        per_class: R.
        background: where the R rows of the background, or of "no object", are; None: there are none.
    """

    per_class: int = 1
    background: Literal['first', 'last'] | None = None

    def count(self, rows: int) -> int | None:
        """K of a layer with so many rows; None if they do not divide into classes."""
        groups, rest = divmod(rows, self.per_class)
        classes = groups - (self.background is not None)
        return classes if not rest and classes > 0 else None

    def copy(self, target: Tensor, source: Tensor, kept: Mapping[int, int]) -> Tensor:
        """``target`` with the rows of the background and of ``kept`` (label there -> label here) from ``source``."""
        result = target.clone()
        groups, from_groups = (rows.unflatten(0, (-1, self.per_class)) for rows in (result, source))
        offset = int(self.background == 'first')
        if self.background:
            groups[0 if offset else -1] = from_groups[0 if offset else -1]
        for old, new in kept.items():
            groups[new + offset] = from_groups[old + offset]
        return result


def fit_class_layers(model: nn.Module, weights: Mapping[str, Tensor], old_classes: Sequence[str] = (),
                     new_classes: Sequence[str] = ()) -> tuple[dict[str, Tensor], str]:
    """Weights of a detector of other classes as initial weights of this one.

    Where both lists of names are known, rows of equal names are kept (upper case, spaces, hyphens and underscores do
    not matter) with the background's; all other rows keep the model's initial values. Where names are not known, layers
    of an equal number of classes are taken as they are, others start anew.

    Args:
        model: the detector with its initial weights.
        weights: of the file, under the model's names.
        old_classes: names of the file's classes by label; empty: not known.
        new_classes: names of the model's classes by label; empty: not known.

    Returns:
        The weights, and what was done with the class layers: empty if they are taken as they are.
    """
    own = model.state_dict()
    layers, old_count, new_count = class_counts(model, weights)
    named = len(old_classes) == old_count and len(new_classes) == new_count
    if not layers or (_plain(old_classes) == _plain(new_classes) if named else old_count == new_count):
        return dict(weights), ''
    labels = {name: label for label, name in enumerate(_plain(old_classes))} if named else {}
    kept = {labels[name]: label for label, name in enumerate(_plain(new_classes)) if name in labels}
    fitted = {name: rows.copy(own[name].cpu(), weights[name].to(own[name].dtype).cpu(), kept) if kept else own[name]
              for name, rows in layers.items()}
    return {**weights, **fitted}, _describe(model, layers, old_count, new_classes if named else (), new_count, kept)


def class_counts(model: nn.Module, weights: Mapping[str, Tensor]) -> tuple[dict[str, ClassRows], int, int]:
    """The class layers that a file and a model share, the file's number of classes and the model's.

    No layers where they do not agree on these numbers: then the file is of another kind of model.
    """
    own = model.state_dict()
    layers = {name: rows for name, rows in _class_parameters(model, own).items()
              if name in weights and own[name].shape[1:] == weights[name].shape[1:]}
    counts = {(rows.count(len(weights[name])), rows.count(len(own[name]))) for name, rows in layers.items()}
    old_count, new_count = counts.pop() if len(counts) == 1 else (None, None)
    return (layers, old_count, new_count) if old_count and new_count else ({}, 0, 0)


def _class_parameters(model: nn.Module, own: Mapping[str, Tensor]) -> dict[str, ClassRows]:
    """The parameters and buffers with a row per class, by their full names."""
    found: dict[str, ClassRows] = {}
    for part_name, part in model.named_modules():
        declared: dict[str, ClassRows] = getattr(part, 'class_layers', {})
        for layer, rows in declared.items():
            name = f'{part_name}.{layer}' if part_name else layer
            found |= {key: rows for key in own if key == name or key.startswith(f'{name}.')}
    return found


def _plain(names: Sequence[str]) -> list[str]:
    return [re.sub(r'[\s_-]+', ' ', name).strip().casefold() for name in names]


def _describe(model: nn.Module, layers: Mapping[str, ClassRows], old_count: int, names: Sequence[str], new_count: int,
              kept: Mapping[int, int]) -> str:
    where = shortened(sorted({name.rpartition('.')[0] or name for name in layers}))
    before = f'{old_count} classes there, {new_count} here: '
    if not kept:
        reason = 'none has an equal name' if names else 'their names are not known'
        return f'{before}{where} start anew ({reason})'
    same = sorted(kept.values())
    new = [name for label, name in enumerate(names) if label not in kept.values()]
    return (f'{before}{where} keep {len(same)} of equal names ({shortened([names[label] for label in same])})'
            + (f' and start anew for {shortened(new)}' if new else ''))
