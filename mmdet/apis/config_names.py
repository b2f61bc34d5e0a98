"""Lookup of the names in a config: registered classes and their arguments.

Called by the modules that read configs and ``--cfg-options``.
"""
from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry
from mmengine.runner import Runner

import mmdet.checkpoint  # noqa: F401  registers the initialiser Pretrained
from mmdet import registry as mmdet_registry
from mmdet.errors import UserError

# keys that a builder removes before it calls the constructor
BUILDERS_OWN = {
    'type', '_scope_', 'priority', 'constructor', 'paramwise_cfg', 'convert_to_iter_based', 'requires_grad'}
TOP_LEVEL = set(inspect.signature(Runner.__init__).parameters) | {
    'find_unused_parameters', 'model_wrapper_cfg', 'activation_checkpointing', 'compile', 'sync_bn', 'new_schedule',
    'frozen'}


def typed_dicts(node: Any, where: str) -> Iterator[tuple[str, dict]]:
    """Yield the dicts with a ``type`` in a nested value, each with its dotted key, which begins with ``where``."""
    if isinstance(node, dict):
        if 'type' in node:
            yield where, node
        children: Iterable = node.items()
    elif isinstance(node, (list, tuple)):
        children = enumerate(node)
    else:
        return
    for key, child in children:
        yield from typed_dicts(child, f'{where}.{key}' if where else str(key))


def _registries() -> list[Registry]:
    """Return this project's registries, then mmengine's."""
    return [value for module in (mmdet_registry, mmengine_registry) for value in vars(module).values()
            if isinstance(value, Registry)]


def find_types(type_: Any, where: str) -> list[Any]:
    """Return every class or function that is registered under a name."""
    if not isinstance(type_, str):
        return [type_]
    registries = _registries()
    for registry in registries:
        registry.import_from_location()
    # Registry.get would search the disk for a module of an unknown name, once for every registry
    found = [registry.module_dict[type_] for registry in registries if type_ in registry.module_dict]
    if not found:  # with a scope or a path, such as mmengine.StepLR
        found = [entry for registry in registries if (entry := registry.get(type_)) is not None]
    if not found:
        known = {name for registry in registries for name in registry.module_dict}
        raise UserError(f'config key {where}.type: nothing is registered as {type_!r}{did_you_mean(type_, known)}')
    return found


def arguments_of(target: Any) -> set[str] | None:
    """Return the names of the arguments that a constructor or function accepts; None if it accepts any name."""
    if not inspect.isclass(target):
        parameters = inspect.signature(target).parameters.values()
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
        return None if open_ended else {p.name for p in parameters} | BUILDERS_OWN
    names, forwards = set(BUILDERS_OWN), False
    for klass in target.__mro__[:-1]:
        if '__init__' in vars(klass):
            parameters = inspect.signature(vars(klass)['__init__']).parameters.values()
            names |= {p.name for p in parameters}
            forwards = any(p.kind is p.VAR_KEYWORD for p in parameters)
            if not forwards:
                break
    return None if forwards else names


def flags_of(target: Any) -> set[str]:
    """Return the names of the arguments of a constructor or function that are annotated as ``bool``."""
    functions = [target]
    if inspect.isclass(target):
        functions = [vars(klass)['__init__'] for klass in target.__mro__[:-1] if '__init__' in vars(klass)]
    annotations: dict[str, Any] = {}
    for function in functions:
        for parameter in inspect.signature(function).parameters.values():
            annotations.setdefault(parameter.name, parameter.annotation)
    return {name for name, annotation in annotations.items() if annotation in (bool, 'bool')}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message with up to three known names that are similar to this one."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f'; did you mean {" or ".join(close)}?' if close else ''


def type_name(type_: Any) -> str:
    """Return the name of a ``type`` for a message."""
    return type_ if isinstance(type_, str) else getattr(type_, '__name__', str(type_))
