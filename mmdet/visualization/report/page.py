"""The content of the report's page, and its HTML: ``report.html`` with style sheet and script.

The Content-Security-Policy forbids the browser to load anything and to run any other script; names are escaped.
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
    """A number of a table: ``value`` in [0, 1], or negative if it is undefined."""

    name: str
    meaning: str
    value: float


@dataclass
class Bar:
    """A row of a bar chart: ``value`` as in :class:`Score`; ``note`` is shown after the name."""

    name: str
    value: float
    note: str = ''


@dataclass
class Card:
    """A video of the gallery: ``picture`` is the content of an animated WebP file of ``width`` × ``height`` pixels."""

    name: str
    value: float
    note: str
    picture: bytes
    width: int
    height: int

    @property
    def source(self) -> str:
        """The picture as a data URL."""
        return 'data:image/webp;base64,' + base64.b64encode(self.picture).decode()


@dataclass
class GainBar:
    """The gain in AP if one kind of error were corrected: ``value`` and its interval, in [-1, 1]; nan: no interval.

    ``note`` is shown after the name; a ``part`` belongs to the row above it and is indented.
    """

    name: str
    value: float
    low: float
    high: float
    note: str = ''
    part: bool = False


@dataclass
class ErrorSection:
    """Where AP is lost; ``calibration`` has a title and a chart for each entry."""

    gains: Sequence[GainBar]
    note: str
    calibration: Sequence[tuple[str, Markup]]

    @property
    def scale(self) -> float:
        """The gain whose bar has the full length."""
        return max([0.01, *(gain.high for gain in self.gains), *(gain.value for gain in self.gains)])


@dataclass
class Page:
    """The content of the page; sections without content are left out.

    Attributes:
        title: title of the page.
        summary: text below the title: what was tested on what.
        tables: statistics, one list for each table.
        categories, ranges: bars by category, and by size and occlusion.
        ranges_note: what is missing there.
        precision_recall: a chart.
        errors: where AP is lost.
        training: a title and a chart for each entry.
        cards: the gallery, the best video first.
        gallery_note: which videos it shows.
        headline: the statistics in large type.
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
    """Return for example ``'41.3'``; a dash if the value is undefined."""
    return '–' if value < 0 else f'{100 * value:.1f}'


def signed_percent(value: float) -> str:
    """Return for example ``'+4.1'``; zero is ``'+0.0'``."""
    return f'{round(100 * value, 1) + 0:+.1f}'


def render_page(page: Page) -> str:
    """Return the HTML text."""
    loader = PackageLoader('mmdet.visualization.report', '.')
    environment = Environment(loader=loader, autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= dict(percent=percent, signed=signed_percent)
    style, script = (loader.get_source(environment, name)[0] for name in ('report.css', 'report.js'))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template('report.html').render(
        page=page, style=Markup(style), script=Markup(script), script_hash=digest)
