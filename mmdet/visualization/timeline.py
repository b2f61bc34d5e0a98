"""Timeline of tracks as HTML: which object is visible when. Called by :mod:`mmdet.apis.web_demo`."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from mmdet.visualization.colors import color_of
from mmdet.visualization.labels import label_texts

MOST_ROWS = 100  # tracks with a row, those that are visible longest

_STYLE = Markup("""<style>
.timeline { display: grid; grid-template-columns: minmax(0, max-content) 1fr max-content; gap: 4px 10px;
  align-items: center; font-size: 14px; }
.timeline > span { overflow-wrap: anywhere; }
.timeline .row { position: relative; height: 14px; border-radius: 3px; background: rgb(128 128 128 / 18%); }
.timeline .row i { position: absolute; top: 0; bottom: 0; min-width: 2px; border-radius: 3px; }
.timeline .axis { display: flex; justify-content: space-between; opacity: .75; }
</style>""")


@dataclass
class _Moment:
    """A frame, counted from 0, and its time in seconds; None: unknown."""

    frame: int
    time: float | None

    def __str__(self) -> str:
        return f'frame {self.frame}' if self.time is None else f'{self.time:.1f} s'


@dataclass
class _Run:
    """The first and the last of successive frames."""

    first: _Moment
    last: _Moment


@dataclass
class _Track:
    """Labels with their counts, the sum of the scores, and first and last frame of each uninterrupted run."""

    labels: Counter[int] = field(default_factory=Counter)
    score: float = 0.0
    runs: list[_Run] = field(default_factory=list)

    @property
    def frames(self) -> int:
        """The number of frames in which the object is visible."""
        return sum(self.labels.values())


class Timeline:
    """Collects the objects of each frame of a video and shows the frames in which each track is visible.

    Memory grows with the number of tracks and of their interruptions, not with the number of frames.

    Args:
        class_names: class names by label; None: labels without names.
    """

    def __init__(self, class_names: Sequence[str] | None = None) -> None:
        self._names = class_names
        self._tracks: dict[int, _Track] = {}
        self._frames = 0
        self._whole: _Run | None = None

    def add(self, ids: Iterable[int], labels: Iterable[int], scores: Iterable[float],
            time: float | None = None) -> None:
        """Add the next frame.

        Args:
            ids, labels, scores: of its objects.
            time: its time in seconds since the start of the video, if known.
        """
        now = _Moment(self._frames, time)
        for track_id, label, score in zip(ids, labels, scores):
            track = self._tracks.setdefault(track_id, _Track())
            track.labels[label] += 1
            track.score += score
            if track.runs and track.runs[-1].last.frame == self._frames - 1:
                track.runs[-1].last = now
            else:
                track.runs.append(_Run(now, now))
        self._frames += 1
        self._whole = _Run(now if self._whole is None else self._whole.first, now)

    def __len__(self) -> int:
        """Return the number of tracks."""
        return len(self._tracks)

    def html(self) -> Markup:
        """Return one row per track, in the order of appearance, with a bar for each run of frames, and the time axis.

        Colours and texts are those of the drawn video. Names are escaped.
        """
        if self._whole is None or not self._tracks:
            return Markup('<p>No object was found.</p>')
        longest = sorted(self._tracks, key=lambda key: -self._tracks[key].frames)[:MOST_ROWS]
        parts = [_STYLE, Markup('<div class="timeline">')]
        for key in sorted(longest, key=lambda key: (self._tracks[key].runs[0].first.frame, key)):
            parts += self._row(key, self._tracks[key])
        parts.append(Markup('<span></span><div class="axis"><span>{}</span><span>{}</span></div><span></span></div>')
                     .format(self._whole.first, self._whole.last))
        if len(longest) < len(self._tracks):
            parts.append(Markup('<p>{} tracks; the {} that are visible longest are shown.</p>').format(
                len(self._tracks), len(longest)))
        return Markup('').join(parts)

    def _row(self, key: int, track: _Track) -> list[Markup]:
        label, _ = track.labels.most_common(1)[0]
        name = self._names[label] if self._names is not None else f'class {label}'
        blue, green, red = color_of(key)
        parts = [Markup('<span>{}</span><div class="row">').format(
            label_texts(key, name, track.score / track.frames)[0])]
        for run in track.runs:
            left = 100 * run.first.frame / self._frames
            width = 100 * (run.last.frame + 1 - run.first.frame) / self._frames
            bar = Markup('<i style="left:{:.2f}%;width:{:.2f}%;background:rgb({} {} {})" title="{} to {}"></i>')
            parts.append(bar.format(left, width, red, green, blue, run.first, run.last))
        parts.append(Markup('</div><span>{}</span>').format(
            f'{track.frames} frame' + 's' * (track.frames > 1)))
        return parts
