"""Checks of the arguments of transforms; the message of an error names the transform and the argument."""
from __future__ import annotations

import math
from collections.abc import Sequence

from mmdet.errors import UserError


def checked_number(name: str, value: float, low: float, high: float = math.inf) -> float:
    """Return a number; raise UserError unless it lies in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        limits = f'of at least {low}' if high == math.inf else f'from {low} to {high}'
        raise UserError(f'{name} must be a number {limits}, not {value!r}')
    return value


def checked_range(name: str, value: Sequence[float], low: float, high: float = math.inf) -> tuple[float, float]:
    """Return the bounds of a range; raise UserError unless they are two ascending numbers in [low, high]."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise UserError(f'{name} must be two numbers (least, most), not {value!r}')
    least, most = (checked_number(name, bound, low, high) for bound in value)
    if least > most:
        raise UserError(f'{name} must be two numbers (least, most), the lower first, not {value!r}')
    return least, most


def checked_count(name: str, value: int, least: int) -> int:
    """Return an integer; raise UserError unless it is at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f'{name} must be an integer of at least {least}, not {value!r}')
    return value
