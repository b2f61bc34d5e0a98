"""Read the training curves from a log; called by :func:`mmdet.apis.write_report`, which draws them."""
from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from mmdet.errors import UserError

LOG_PLACE = '<work_dir>/<time>/vis_data/scalars.json'
# what mmengine logs beside losses and metrics
OTHER_KEYS = ('epoch', 'iter', 'step', 'time', 'data_time', 'memory', 'eta', 'grad_norm')


def read_scalars(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read the curves of mmengine's ``vis_data/scalars.json``, which has one JSON object per line.

    Returns:
        (k, 2) float64 steps and values by name. A last line that was truncated by an interrupt is left out.

    Raises:
        UserError: the file is missing, is not such a log, or has no values.
    """
    try:
        lines = Path(path).read_text(encoding='utf-8', errors='replace').splitlines()
    except OSError as error:
        raise UserError(f'cannot read the training log {path} ({error.strerror}): give {LOG_PLACE}') from error
    points: dict[str, list[tuple[float, float]]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            step = float(entry['step'])
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise UserError(f'{path}: line {number} is no entry of a training log: give {LOG_PLACE}') from error
        for key, value in entry.items():
            if isinstance(value, (int, float)) and key not in OTHER_KEYS:
                points.setdefault(key, []).append((step, float(value)))
    if not points:
        raise UserError(f'{path} holds no numbers yet: train for at least one logging interval')
    return {key: np.array(values) for key, values in points.items()}
