"""Line charts as inline SVG that takes its colours from the page. Called by :mod:`page`'s callers.

Numbers and text only reach the page through markupsafe, which escapes them.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 440, 290
LEFT, RIGHT, TOP, BOTTOM = 64, 22, 10, 42
COLORS = 7  # line colours of the page's style sheet; then the dashes change
MOST_POINTS = 300  # more of them are averaged


@dataclass
class Curve:
    """One line: ``points`` (k, 2) x, y, finite or nan (a gap)."""

    name: str
    points: np.ndarray


def line_chart(curves: Sequence[Curve], xlabel: str, ylabel: str, ylim: tuple[float, float] | None = None,
               log: bool = False) -> Markup:
    """A figure with its legend below.

    Args:
        curves: at least one, with at least one point that is not nan.
        xlabel, ylabel: of the axes; an empty one is left out.
        ylim: of the y axis; None: what the curves need.
        log: logarithmic y axis; values must be positive.
    """
    curves = [Curve(curve.name, _thinned(curve.points)) for curve in curves]
    everything = np.concatenate([curve.points for curve in curves])
    everything = everything[np.isfinite(everything).all(axis=1)]
    xs = _ticks(everything[:, 0].min(), everything[:, 0].max(), log=False)
    bottom, top = ylim or (everything[:, 1].min(), everything[:, 1].max())
    ys = _ticks(bottom, top, log=log)
    scale_y = np.log10 if log else np.asarray

    def place(points: np.ndarray) -> np.ndarray:
        low, high = scale_y(ys[0]), scale_y(ys[-1])
        x = LEFT + (points[:, 0] - xs[0]) / (xs[-1] - xs[0]) * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - (scale_y(points[:, 1]) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return np.stack([x, y], axis=1)

    parts = [Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        WIDTH, HEIGHT, f'{ylabel or ", ".join(curve.name for curve in curves)} against {xlabel}')]
    for value in ys:
        y = float(place(np.array([[xs[0], value]]))[0, 1])
        parts.append(Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(LEFT, y, WIDTH - RIGHT))
        parts.append(Markup('<text class="tick y" x="{}" y="{:.1f}">{}</text>').format(LEFT - 6, y + 4, _short(value)))
    for value in xs:
        x = float(place(np.array([[value, ys[0]]]))[0, 0])
        parts.append(Markup('<text class="tick x" x="{:.1f}" y="{}">{}</text>').format(
            x, HEIGHT - BOTTOM + 18, _short(value)))
    parts.append(Markup('<text class="axis" x="{}" y="{}">{}</text>').format(
        (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, xlabel))
    parts.append(Markup('<text class="axis" transform="translate(13 {}) rotate(-90)">{}</text>').format(
        (TOP + HEIGHT - BOTTOM) / 2, ylabel))
    for index, curve in enumerate(curves):
        parts.append(Markup('<path class="line {}" d="{}"/>').format(_style(index), _path(place(curve.points))))
    parts.append(Markup('</svg><ul class="legend">'))
    for index, curve in enumerate(curves):
        parts.append(Markup('<li><svg viewBox="0 0 24 8"><path class="line {}" d="M0 4H24"/></svg>{}</li>').format(
            _style(index), curve.name))
    return Markup('').join([*parts, Markup('</ul>')])


def _style(index: int) -> str:
    return f'c{index % COLORS} d{index // COLORS % 3}'


def _path(points: np.ndarray) -> str:
    """SVG path commands; a nan lifts the pen. A lone point becomes a dot."""
    words, drawing = [], False
    for x, y in points.tolist():
        if y != y:
            drawing = False
            continue
        words.append(f'{"L" if drawing else "M"}{x:.1f} {y:.1f}' + ('' if drawing else 'h.1'))
        drawing = True
    return ''.join(words)


def _thinned(points: np.ndarray) -> np.ndarray:
    """At most MOST_POINTS points: means of equally many neighbours."""
    points = np.asarray(points, np.float64)
    if len(points) <= MOST_POINTS:
        return points
    return np.stack([part.mean(axis=0) for part in np.array_split(points, MOST_POINTS)])


def _ticks(low: float, high: float, log: bool) -> np.ndarray:
    """Round numbers of which the first and last enclose the values."""
    if log:
        decades = 10.0**np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 2)
        for steps in ((1, 2, 5), (1,)):
            ticks = np.outer(decades, steps).ravel()
            ticks = ticks[np.searchsorted(ticks, low, 'right') - 1:np.searchsorted(ticks, high * (1 + 1e-9)) + 1]
            if len(ticks) <= 7:
                break
        return ticks
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.asarray(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))


def _short(value: float) -> str:
    """4 significant digits; 20000 as 20k, 0.00005 as 5e-5."""
    return f'{value / 1000:g}k' if abs(value) >= 10000 else f'{round(value, 10):.4g}'.replace('e-0', 'e-')
