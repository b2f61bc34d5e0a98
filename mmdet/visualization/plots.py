"""Plots of training logs and of precision against recall; called by the report and by the analysis tools."""
from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmdet.errors import UserError

from .colors import OKABE_ITO
from .writers import cannot_write, make_folder

LOG_PLACE = '<work_dir>/<time>/vis_data/scalars.json'
# what mmengine logs beside losses and metrics
OTHER_KEYS = ('epoch', 'iter', 'step', 'time', 'data_time', 'memory', 'eta', 'grad_norm')
LINE_COLORS = tuple(f'#{r:02x}{g:02x}{b:02x}' for r, g, b in (OKABE_ITO[i] for i in (6, 5, 2, 0, 4, 1, 3)))


def read_scalars(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Curves from mmengine's ``vis_data/scalars.json``, one JSON object a line.

    Returns:
        For each number logged (k, 2) float64: step, value. A last line cut off by an interrupt is left out.

    Raises:
        UserError: the file is missing, is not such a log, or holds nothing.
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


def plot_training_curves(log: str | os.PathLike, out: str | os.PathLike) -> Path:
    """Losses, learning rate and, where there was validation, its metrics over the training steps.

    Args:
        log: mmengine's ``scalars.json``.
        out: the PNG file; its folder is made if missing.

    Returns:
        ``out``.

    Raises:
        UserError: see :func:`read_scalars`; or the picture cannot be written.
    """
    curves = read_scalars(log)
    panels = {
        'loss': {k: v for k, v in curves.items() if 'loss' in k},
        'learning rate': {k: v for k, v in curves.items() if k.endswith('lr')},
    }
    panels['validation'] = {k: v for k, v in curves.items() if not any(k in panel for panel in panels.values())}
    panels = {title: panel for title, panel in panels.items() if panel}
    figure = Figure(figsize=(5 * len(panels), 3.6), dpi=120, layout='constrained')
    for axes, (title, panel) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        _style(axes, title, 'step')
        for index, (name, points) in enumerate(sorted(panel.items(), key=lambda item: item[0] != 'loss')):
            marker = '.' if len(points) < 30 else None
            axes.plot(*points.T, label=name, marker=marker, **_line(index, bold=name == 'loss'))
        if title == 'loss' and all((points[:, 1] > 0).all() for points in panel.values()):
            axes.set_yscale('log')
        axes.legend(fontsize=7, frameon=False)
    return _save(figure, out)


def plot_precision_recall(recall: np.ndarray, precisions: Mapping[str, np.ndarray], out: str | os.PathLike) -> Path:
    """Precision against recall, one curve a name.

    Args:
        recall: (r,) in [0, 1], ascending.
        precisions: for each name (r,) in [0, 1]; -1 where it is not defined, as in COCO's tables.
        out: the PNG file; its folder is made if missing.

    Returns:
        ``out``.
    """
    figure = Figure(figsize=(5, 4.2), dpi=120, layout='constrained')
    axes = figure.subplots()
    _style(axes, '', 'recall')
    axes.set(ylabel='precision', xlim=(0, 1), ylim=(0, 1.02))
    for index, (name, precision) in enumerate(precisions.items()):
        precision = np.where(np.asarray(precision) < 0, np.nan, precision)
        axes.plot(recall, precision, label=name, **_line(index))
    if precisions:
        axes.legend(fontsize=7, frameon=False)
    return _save(figure, out)


def _style(axes: Axes, title: str, xlabel: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(xlabel)
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)


def _line(index: int, bold: bool = False) -> dict:
    """Colour, and beyond the seventh curve another dash, so that no two curves look the same."""
    style = ('-', '--', ':', '-.')[index // len(LINE_COLORS) % 4]
    return {'color': LINE_COLORS[index % len(LINE_COLORS)], 'linestyle': style, 'linewidth': 2 if bold else 1.3}


def _save(figure: Figure, out: str | os.PathLike) -> Path:
    out = Path(out)
    make_folder(out.parent)
    try:
        figure.savefig(out, format='png')
    except OSError as error:
        raise cannot_write(out, error) from error
    return out
