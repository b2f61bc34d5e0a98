"""Line charts as inline SVG, whose colours are those of the page's style sheet. Called by the callers of :mod:`page`.

Numbers and text are inserted by markupsafe, which escapes them.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 440, 290
LEFT, RIGHT, TOP, BOTTOM = 64, 22, 10, 46  # minimum margins around the axes
TITLE, CHARACTER = 26, 10  # width of the title of the y axis, and of a digit in the font size of phones
COLORS = 10  # number of line colours in the style sheet; further lines have other shades of them and other dashes
MOST_POINTS = 300  # a curve with more is averaged
MOST_DOTS = 20  # a curve with at most so many points has a dot at each


@dataclass
class Curve:
    """One line: ``points`` (k, 2) with x and y, finite or NaN (a gap)."""

    name: str
    points: np.ndarray


def line_chart(curves: Sequence[Curve], xlabel: str, ylabel: str, ylim: tuple[float, float] | None = None,
               log: bool = False) -> Markup:
    """Draw curves as SVG, with a legend below.

    Args:
        curves: at least one, with at least one point that is not NaN.
        xlabel, ylabel: titles of the axes; an empty one is left out.
        ylim: range of the y axis; None: that of the curves.
        log: use a logarithmic y axis; values must be positive.
    """
    curves = [Curve(curve.name, _thinned(curve.points)) for curve in curves]
    everything = np.concatenate([curve.points for curve in curves])
    everything = everything[np.isfinite(everything).all(axis=1)]
    xs = _ticks(everything[:, 0].min(), everything[:, 0].max(), whole=bool((everything[:, 0] % 1 == 0).all()))
    bottom, top = ylim or (everything[:, 1].min(), everything[:, 1].max())
    ys = _ticks(bottom, top, log=log)
    scale_y = np.log10 if log else np.asarray
    left = max(LEFT, TITLE + CHARACTER * max(len(_short(value)) for value in ys))
    right = max(RIGHT, CHARACTER * len(_short(xs[-1])) // 2)

    def place(points: np.ndarray) -> np.ndarray:
        low, high = scale_y(ys[0]), scale_y(ys[-1])
        x = left + (points[:, 0] - xs[0]) / (xs[-1] - xs[0]) * (WIDTH - left - right)
        y = HEIGHT - BOTTOM - (scale_y(points[:, 1]) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return np.stack([x, y], axis=1)

    parts = [Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        WIDTH, HEIGHT, f'{ylabel or ", ".join(curve.name for curve in curves)} against {xlabel}')]
    for value in ys:
        y = float(place(np.array([[xs[0], value]]))[0, 1])
        parts.append(Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(left, y, WIDTH - right))
        parts.append(Markup('<text class="tick y" x="{}" y="{:.1f}">{}</text>').format(left - 6, y + 4, _short(value)))
    for value in xs:
        x = float(place(np.array([[value, ys[0]]]))[0, 0])
        parts.append(Markup('<text class="tick x" x="{:.1f}" y="{}">{}</text>').format(
            x, HEIGHT - BOTTOM + 20, _short(value)))
    parts.append(Markup('<text class="axis" x="{}" y="{}">{}</text>').format(
        (left + WIDTH - right) / 2, HEIGHT - 6, xlabel))
    parts.append(Markup('<text class="axis" transform="translate(19 {}) rotate(-90)">{}</text>').format(
        (TOP + HEIGHT - BOTTOM) / 2, ylabel))
    for index, curve in enumerate(curves):
        points = place(curve.points)
        parts.append(Markup('<path class="line {}" d="{}"/>').format(_style(index), _path(points)))
        parts += [Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="4"/>').format(_style(index), x, y)
                  for x, y in _dots(points).tolist()]
    parts.append(Markup('</svg><ul class="legend">'))
    for index, curve in enumerate(curves):
        parts.append(Markup('<li><svg viewBox="0 0 24 8"><path class="line {}" d="M0 4H24"/></svg>{}</li>').format(
            _style(index), curve.name))
    return Markup('').join([*parts, Markup('</ul>')])


def _style(index: int) -> str:
    return f'c{index % COLORS} d{index // COLORS % 3}'


def _path(points: np.ndarray) -> str:
    """Return SVG path commands for points (k, 2); NaN makes a gap."""
    words, drawing = [], False
    for x, y in points.tolist():
        if y != y:
            drawing = False
            continue
        words.append(f'{"L" if drawing else "M"}{x:.1f} {y:.1f}')
        drawing = True
    return ''.join(words)


def _dots(points: np.ndarray) -> np.ndarray:
    """Return those of the points (k, 2) that need a dot: without neighbours, or all of them if they are few."""
    finite = np.isfinite(points).all(axis=1)
    padded = np.concatenate([[False], finite, [False]])
    alone = finite & ~padded[:-2] & ~padded[2:]
    return points[finite if finite.sum() <= MOST_DOTS else alone]


def _thinned(points: np.ndarray) -> np.ndarray:
    """Return at most MOST_POINTS points, which are means of equally many neighbours."""
    points = np.asarray(points, np.float64)
    if len(points) <= MOST_POINTS:
        return points
    return np.stack([part.mean(axis=0) for part in np.array_split(points, MOST_POINTS)])


def _ticks(low: float, high: float, log: bool = False, whole: bool = False) -> np.ndarray:
    """Return round numbers of which the first and the last enclose the values; ``whole``: only whole numbers."""
    if log:
        decades = 10.0**np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 2)
        for steps in ((1, 2, 5), (1,)):
            ticks = np.outer(decades, steps).ravel()
            ticks = ticks[np.searchsorted(ticks, low, 'right') - 1:np.searchsorted(ticks, high * (1 + 1e-9)) + 1]
            if len(ticks) <= 7:
                break
        return ticks
    if low == high:
        margin = 1 if whole else abs(low) / 2 or 0.5
        low, high = low - margin, high + margin
    ticks = np.asarray(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10], integer=whole).tick_values(low, high))
    return np.where(np.abs(ticks) < 1e-9 * np.abs(ticks).max(), 0, ticks)  # without rounding errors around 0


def _short(value: float) -> str:
    """Return a number with 4 significant digits; 20000 as 20k, 0.00005 as 5e-5."""
    if abs(value) >= 10000:
        return f'{value / 1000:g}k'
    if 0 < abs(value) < 0.001:
        digits, exponent = f'{value:.3e}'.split('e')
        return f'{float(digits):g}e{int(exponent)}'
    return f'{value:.4g}'
