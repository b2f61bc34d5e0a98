"""Pictures of a memory's reads: which units are used, and maps over a frame. Called by :mod:`mmdet.apis.memory_report`.

Symbols: M units.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor


class Maps(Protocol):
    """Maps (h, w) of one level of one image, see :class:`mmdet.models.memory.read_statistics.LevelMaps`."""

    winner: Tensor
    perplexity: Tensor
    context: Tensor
    feature: Tensor


def picture_of_units(levels: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> Figure:
    """Draw how much each unit is used, the most used first, on a logarithmic axis.

    Args:
        levels: name, share of the locations that each unit wins (M,), mean read weight of each unit (M,).
    """
    figure = Figure(figsize=(9, 4), layout='constrained')
    for axes, place, title in zip(figure.subplots(1, 2), (1, 2), ('share of locations won', 'mean read weight')):
        for level in levels:
            shares = np.sort(level[place])[::-1]
            axes.plot(np.arange(1, len(shares) + 1), np.where(shares > 0, shares, np.nan), label=level[0], marker='.')
        axes.axhline(1 / len(levels[0][place]), color='grey', linestyle=':', label='1 / units')
        axes.set(xlabel='unit, the most used first', title=title, yscale='log')
        axes.grid(alpha=0.3)
    axes.legend()
    return figure


def picture_of_maps(images: Sequence[np.ndarray], maps: Sequence[Maps], units: int) -> Figure:
    """Draw, one row for each image: the image, and four maps of its finest level.

    Args:
        images: (H, W, 3) uint8 RGB. maps: of each image. units: M.
    """
    columns = (('winning unit', 'winner', 'nipy_spectral', (0, units - 1)),
               ('units read', 'perplexity', 'viridis', (1, units)),
               ('context: |x − mean| / |mean|', 'context', 'magma', (0, None)),
               ('feature: |x − mean| / |mean|', 'feature', 'magma', (0, None)))
    figure = Figure(figsize=(15, 2.2 * len(images)), layout='constrained')
    grid = figure.subplots(len(images), 1 + len(columns), squeeze=False)
    for row, image, level in zip(grid, images, maps):
        row[0].imshow(image)
        for axes, (title, name, colours, (low, high)) in zip(row[1:], columns):
            drawn = axes.imshow(getattr(level, name).numpy(), cmap=colours, vmin=low, vmax=high,
                                interpolation='nearest')
            axes.set_title(title, fontsize=9)
            figure.colorbar(drawn, ax=axes)
        for axes in row:
            axes.set(xticks=[], yticks=[])
    return figure
