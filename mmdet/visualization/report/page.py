"""What the report's page shows, and the page itself: ``report.html`` with its style and script in it.

The browser is told to fetch nothing and to run no script but ours (Content-Security-Policy); names are escaped.
"""
from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


@dataclass
class Score:
    """A number of the table: ``value`` in [0, 1], or negative where it is not defined."""

    name: str
    meaning: str
    value: float


@dataclass
class Bar:
    """A row of a bar chart: ``value`` as of :class:`Score`; ``note`` stands behind the name."""

    name: str
    value: float
    note: str = ''


@dataclass
class Card:
    """A video of the gallery: ``gif`` holds the file's bytes, of ``width`` × ``height`` pixels."""

    name: str
    value: float
    note: str
    gif: bytes
    width: int
    height: int

    @property
    def source(self) -> str:
        """The GIF as an address."""
        return 'data:image/gif;base64,' + base64.b64encode(self.gif).decode()


@dataclass
class GainBar:
    """What AP would gain by mending one kind of error: ``value`` and its interval, in [-1, 1].

    ``note`` stands behind the name; a ``part`` belongs to the row above it and is indented.
    """

    name: str
    value: float
    low: float
    high: float
    note: str = ''
    part: bool = False


@dataclass
class ErrorSection:
    """Where AP is lost: ``calibration`` are charts with a title each."""

    gains: Sequence[GainBar]
    note: str
    calibration: Sequence[tuple[str, Markup]]

    @property
    def scale(self) -> float:
        """The gain at which a bar is as long as there is room."""
        return max([0.01, *(gain.high for gain in self.gains), *(gain.value for gain in self.gains)])


@dataclass
class Page:
    """Everything on the page; sections without content are left out.

    Attributes:
        title: of the page.
        summary: words below the title: what was tested on what.
        tables: the statistics, a list per table.
        categories, ranges: bars by category, and by size and occlusion.
        ranges_note: what is missing there.
        precision_recall: a chart.
        errors: where AP is lost.
        training: title and chart each.
        cards: the gallery, best video first.
        gallery_note: which videos it shows.
    """

    title: str
    summary: str
    tables: Sequence[Sequence[Score]]
    categories: Sequence[Bar]
    ranges: Sequence[Bar]
    precision_recall: Markup
    ranges_note: str = ''
    errors: ErrorSection | None = None
    training: Sequence[tuple[str, Markup]] = ()
    cards: Sequence[Card] = ()
    gallery_note: str = ''
    headline: Sequence[Score] = field(default=())


def percent(value: float) -> str:
    """``'41.3'``; a dash where the value is not defined."""
    return '–' if value < 0 else f'{100 * value:.1f}'


def signed_percent(value: float) -> str:
    """``'+4.1'``; no sign of zero but plus."""
    return f'{round(100 * value, 1) + 0:+.1f}'


def render_page(page: Page) -> str:
    """The HTML text."""
    loader = PackageLoader('mmdet.visualization.report', '.')
    environment = Environment(loader=loader, autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= dict(percent=percent, signed=signed_percent)
    style, script = (loader.get_source(environment, name)[0] for name in ('report.css', 'report.js'))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template('report.html').render(
        page=page, style=Markup(style), script=Markup(script), script_hash=digest)
