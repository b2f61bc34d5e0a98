"""Figure of how cost grows with frames, objects, size and GPUs. Called by tools/analysis_tools/benchmark.py."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from mmdet.files import atomic_open

_Line = tuple[str, Callable[[dict], bool], Callable[[dict], float], Callable[[dict], float]]


def _is(path: str, what: str) -> Callable[[dict], bool]:
    return lambda row: row.get('path') == path and row['what'] == what


def _column(name: str) -> Callable[[dict], float]:
    return lambda row: row[name]


def _megapixels(row: dict) -> float:
    return prod(map(int, row['size'].split('x'))) / 1e6


def _per_item(row: dict) -> float:
    return 1000 / row['per_second']


# title, x axis, y axis, and lines: label, which rows, their x, their y
_PANELS: list[tuple[str, str, str, list[_Line]]] = [
    ('frames', 'frames of a clip', 'ms a frame', [
        ('online, clips', _is('test', 'test clip'), _column('frames'), _per_item),
        ('overlapped', _is('test', 'test clips, overlapped'), _column('frames'), _per_item)]),
    ('objects', 'visible objects', 'ms a frame', [
        ('association', _is('association', 'association'), _column('visible'), _per_item),
        ('masks to RLE', _is('rle', 'masks to RLE'), _column('objects'), _column('median_ms'))]),
    ('size', 'megapixels of the input', 'ms a frame', [
        ('online', _is('sizes', 'test clip'), _megapixels, _per_item)]),
    ('GPUs', 'GPUs', 'pairs a second', [
        ('without graphs', lambda row: row.get('path') == 'gpus' and row.get('checkpointing') == row['graphs'] == 'off',
         _column('GPUs'), _column('per_second')),
        ('CUDA graphs', lambda row: row.get('path') == 'gpus' and row['graphs'] == 'on', _column('GPUs'),
         _column('per_second'))])]


def growth_figure(rows: Sequence[dict], title: str) -> Any:
    """Draw four panels; one without rows says that it was not measured."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout='constrained')
    figure.suptitle(title, fontsize='small')
    for axes, (name, x_label, y_label, lines) in zip(figure.subplots(2, 2).flat, _PANELS):
        for label, chosen, x, y in lines:
            points = sorted((x(row), y(row)) for row in rows if chosen(row))
            if points:
                axes.plot(*zip(*points), marker='o', label=label)
        axes.set(title=name, xlabel=x_label, ylabel=y_label)
        axes.grid(alpha=0.3)
        axes.locator_params(axis='x', integer=name != 'size')
        if axes.lines:
            axes.set_ylim(0, None)
            axes.legend()
        else:
            axes.text(0.5, 0.5, 'not measured', transform=axes.transAxes, ha='center', va='center')
    return figure


def plot_growth(rows: Sequence[dict], title: str, path: str) -> None:
    """Write the figure to a PNG file."""
    with atomic_open(path) as file:
        growth_figure(rows, title).savefig(file, format='png', dpi=120)
