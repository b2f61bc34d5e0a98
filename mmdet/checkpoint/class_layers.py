"""Initialise a detector with weights for other classes: rows of classes with equal names are kept.

The other rows keep the initial values of the model. A module declares in ``class_layers`` which of its layers have
outputs per class. Called by :func:`mmdet.checkpoint.load_initial_weights`; testing and resuming are strict.

Symbols: K classes, R rows of a class in the first dimension of a layer's weight and bias.
"""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from mmdet.errors import counted, shortened


@dataclass(frozen=True)
class ClassRows:
    """Order of the rows of a layer with outputs per class: the classes by label, and a background before or after.

    Args:
        per_class: number R of rows per class.
        background: position of the R rows of the background ("no object"); None: there are none.
    """

    per_class: int = 1
    background: Literal['first', 'last'] | None = None

    def count(self, rows: int) -> int | None:
        """Return the number K of classes of a layer with so many rows; None if R does not divide the rows."""
        groups, rest = divmod(rows, self.per_class)
        classes = groups - (self.background is not None)
        return classes if not rest and classes > 0 else None

    def copy(self, target: Tensor, source: Tensor, kept: Mapping[int, int]) -> Tensor:
        """Copy the rows of the background and of ``kept`` (label in source -> label in target) from ``source``.

        Returns:
            A new tensor; the other rows are those of ``target``.
        """
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
    """Convert the weights of a detector with other classes to initial weights of a model.

    If the class names of both are known, the rows of the background and of classes with equal names (ignoring case,
    spaces, hyphens and underscores) are kept, and all other rows keep the initial values of the model. If they are not
    known, class layers are kept if the numbers of classes are equal, else they keep the initial values of the model.

    Args:
        model: the detector with its initial weights.
        weights: weights of the file, under the names of the model.
        old_classes: class names of the file by label; empty: unknown.
        new_classes: class names of the model by label; empty: unknown.

    Returns:
        The weights, and a description of the changes to class layers: empty if there are none.
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
    """Return the class layers that a file and a model share, and the numbers of classes of the file and of the model.

    If the layers disagree on these numbers, the file belongs to another kind of model, and no layers are returned.
    """
    own = model.state_dict()
    layers = {name: rows for name, rows in _class_parameters(model, own).items()
              if name in weights and own[name].shape[1:] == weights[name].shape[1:]}
    counts = {(rows.count(len(weights[name])), rows.count(len(own[name]))) for name, rows in layers.items()}
    old_count, new_count = counts.pop() if len(counts) == 1 else (None, None)
    return (layers, old_count, new_count) if old_count and new_count else ({}, 0, 0)


def _class_parameters(model: nn.Module, own: Mapping[str, Tensor]) -> dict[str, ClassRows]:
    """Return the parameters and buffers with rows per class by their full names."""
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
    before = f'the file has {counted(old_count, "class")}, the model {new_count}: '
    if not kept:
        reason = 'no class has an equal name' if names else 'the names of the classes are not known'
        return f'{before}{where} keep their initial values ({reason})'
    same = sorted(kept.values())
    new = [name for label, name in enumerate(names) if label not in kept.values()]
    return (f'{before}{where} are loaded for {counted(len(same), "class")} with equal names '
            f'({shortened([names[label] for label in same])})'
            + (f' and keep their initial values for {shortened(new)}' if new else ''))
