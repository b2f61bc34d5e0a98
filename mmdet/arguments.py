"""Checks of numbers that a user gives as arguments: in a config, as a flag or in Python code.

The message of an error names the argument, so ``name`` includes its class or flag: ``'VideoMemory score_thr'``.
"""
from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

from mmdet.errors import UserError


def checked_number(name: str, value: float, low: float, high: float = math.inf) -> float:
    """Return a number; raise UserError unless it is finite and lies in [low, high]."""
    if not _is_number(value) or not low <= value <= high or math.isinf(value):
        limits = f'of at least {low}' if high == math.inf else f'from {low} to {high}'
        raise UserError(f'{name} must be a number {limits}, not {value!r}')
    return value


def checked_positive(name: str, value: float) -> float:
    """Return a number; raise UserError unless it is finite and above 0."""
    if not _is_number(value) or not 0 < value < math.inf:
        raise UserError(f'{name} must be a number above 0, not {value!r}')
    return value


def checked_range(name: str, value: Sequence[float], low: float, high: float = math.inf) -> tuple[float, float]:
    """Return the bounds of a range; raise UserError unless they are two ascending numbers in [low, high].

    Without ``high``, the upper bound may be infinite.
    """
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise UserError(f'{name} must be two numbers (least, most), not {value!r}')
    least, most = value
    checked_number(name, least, low, high)
    if not _is_number(most) or most != math.inf or high != math.inf:
        checked_number(name, most, low, high)
    if least > most:
        raise UserError(f'{name} must be two numbers (least, most), the lower first, not {value!r}')
    return least, most


def checked_numbers(name: str, value: Sequence[float], count: int, low: float, high: float = math.inf,
                    ) -> tuple[float, ...]:
    """Return a sequence of numbers as a tuple; raise UserError unless they are ``count`` numbers in [low, high]."""
    if not isinstance(value, (list, tuple)) or len(value) != count:
        raise UserError(f'{name} must be {count} numbers, not {value!r}')
    return tuple(checked_number(name, number, low, high) for number in value)


def checked_settings(name: str, value: Mapping[str, Any], known: Sequence[str] | None = None) -> Mapping[str, Any]:
    """Return a dict of a config; raise UserError unless it is one, with known keys only (None: with any)."""
    if not isinstance(value, Mapping):
        keys = f' with some of {", ".join(known)}' if known else ''
        raise UserError(f'{name} must be a dict{keys}, not {value!r}')
    for key in value:
        if known is not None and key not in known:
            raise UserError(f'{name} has no key {key!r}; use {", ".join(known)}')
    return value


@contextmanager
def faults_of(part: str) -> Iterator[None]:
    """Convert the exceptions that mmengine raises for an invalid part of the config to UserError."""
    try:
        yield
    except UserError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError, AssertionError, ImportError) as error:
        raise UserError(f'config key {part}: cannot be built: {" ".join(str(error).split())[:300]}') from error


@contextmanager
def wrong_arguments(part: str) -> Iterator[None]:
    """Convert the TypeError of an unknown or missing argument, when an object of the config is built, to UserError.

    Args:
        part: key of the config, for the message.
    """
    try:
        yield
    except TypeError as error:
        if not re.search(r'\(\) (got an unexpected keyword|missing \d+ required .*) argument', str(error)):
            raise
        raise UserError(f'config key {part}: {error}; correct the key') from error


def checked_count(name: str, value: int, least: int) -> int:
    """Return an integer; raise UserError unless it is at least ``least``."""
    if not _is_number(value, whole=True) or value < least:
        raise UserError(f'{name} must be an integer of at least {least}, not {value!r}')
    return value


def checked_flag(name: str, value: bool) -> bool:
    """Return a bool; raise UserError unless the value is one, 0 or 1. Any text, such as 'no', would count as true."""
    if not isinstance(value, Integral) or value not in (0, 1):
        raise UserError(f'{name} must be True or False, not {value!r}')
    return bool(value)


def require_number(name: str, value: Any, whole: bool = False) -> None:
    """Raise UserError unless an argument is a number of Python or NumPy; ``whole``: an integer.

    Without this check, ``thresh='0.3'`` passed in Python code would fail much later, or be compared as a string.
    """
    if not _is_number(value, whole):
        raise UserError(f'{name} {value!r}: is a {type(value).__name__}, not a {"whole " * whole}number such as '
                        f'{1 if whole else 0.3}')


def _is_number(value: Any, whole: bool = False) -> bool:
    return isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
