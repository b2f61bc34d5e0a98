"""Oracles: what a result would be if errors of some kinds were mended, and how it then matches the annotations.

docs/error_analysis.md defines the errors; :func:`mend` edits the tracks of a video, :func:`outcome` matches them.

Symbols: D predicted tracks, U tracks after mending (the D first, then cut-out pieces), G objects, T frames, S overlap
thresholds of AP.
"""
from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

import numpy as np

from mmdet.evaluation.error_analysis.relations import FINDS, Relations
from mmdet.evaluation.functional.video_iou import area_ratio


class Mend(Enum):
    """A kind of error that can be mended."""

    CLASS = 'class'
    MASKS = 'masks'
    DUPLICATES = 'duplicates'
    MISSED = 'missed tracks'
    FALSE = 'false tracks'
    JOIN = 'one object over several tracks'
    CUT = 'several objects in one track'
    EXTENT = 'late birth and early death'


# what each row of the report mends
ORACLES: dict[str, frozenset[Mend]] = {
    'class': frozenset({Mend.CLASS}),
    'masks': frozenset({Mend.MASKS}),
    'duplicates': frozenset({Mend.DUPLICATES}),
    'missed tracks': frozenset({Mend.MISSED}),
    'false tracks': frozenset({Mend.FALSE}),
    'id switches': frozenset({Mend.JOIN, Mend.CUT}),
    'one object over several tracks': frozenset({Mend.JOIN}),
    'several objects in one track': frozenset({Mend.CUT}),
    'late birth and early death': frozenset({Mend.EXTENT}),
}
SPLIT_OF_SWITCHES = ('one object over several tracks', 'several objects in one track')  # the two sorts of id switches


@dataclass
class MendedTracks:
    """The tracks of a video after mending.

    Attributes:
        origin: (U,) the predicted track that each comes from; the first D are 0 ... D - 1.
        objects: (U,) the object that each is on; -1: none.
        sources: (U, T) the mask source of each frame (see :class:`~.relations.Relations`); -1: no mask.
        iou: (U, G).
        categories: (U,) category ids.
    """

    origin: np.ndarray
    objects: np.ndarray
    sources: np.ndarray
    iou: np.ndarray
    categories: np.ndarray


@dataclass
class Outcome:
    """How the tracks of one video, or of all, count in AP after mending.

    Attributes:
        categories: (N,) category ids. scores: (N,).
        true, false: (S, N) bool, counts as a true, as a false positive; neither: ignored or mended away.
        objects: category ids of the annotated objects that count, one for each.
        changed: predicted tracks of which mending changed a mask or the category, or which it removed at overlap
            threshold .50; of missed tracks: objects.
    """

    categories: np.ndarray
    scores: np.ndarray
    true: np.ndarray
    false: np.ndarray
    objects: np.ndarray
    changed: int


def mend(video: Relations, mends: Collection[Mend]) -> MendedTracks:
    """Edit the masks and categories of a video's tracks; removals are up to :func:`outcome`."""
    count = len(video.scores)
    origin, objects, own = np.arange(count), video.target, video.own
    present, foreign = video.areas[:count] > 0, video.foreign >= 0
    kept, replaceable = present, present & ~foreign  # frames that keep a mask; those whose mask belongs to the target
    if Mend.CUT in mends:
        rows, frames = np.nonzero(foreign)
        pieces = np.unique(np.stack([rows, video.foreign[rows, frames]]), axis=1)
        piece_frames = video.foreign[pieces[0]] == pieces[1][:, None]
        origin, objects = np.concatenate([origin, pieces[0]]), np.concatenate([objects, pieces[1]])
        own, kept = np.concatenate([own, piece_frames]), np.concatenate([replaceable, piece_frames])
        replaceable = kept
    sources = np.where(kept, origin[:, None], -1)

    on_object = objects[:, None] >= 0
    exact = np.where(on_object, count + objects[:, None], -1)  # the object's own masks
    lacking = ~kept & (video.areas[exact[:, 0]] > 0)
    elsewhere = lacking & (video.cover[objects] >= 0)
    nowhere = lacking & ~elsewhere
    alive = np.maximum.accumulate(own, axis=1) & np.maximum.accumulate(own[:, ::-1], axis=1)[:, ::-1]
    if Mend.JOIN in mends:
        sources = np.where(elsewhere, video.cover[objects], sources)
        replaceable = replaceable | elsewhere
    if Mend.MASKS in mends:
        sources = np.where(on_object & (replaceable | (nowhere & alive)), exact, sources)
    if Mend.EXTENT in mends:
        sources = np.where(nowhere & ~alive, exact, sources)

    frames = np.arange(sources.shape[1])
    iou = area_ratio(video.intersections[frames, sources].sum(1), video.areas[sources, frames].sum(1),
                     video.areas[count:-1].sum(1))
    categories = video.categories[origin]
    if Mend.CLASS in mends:
        found = _of_object(iou, objects) >= FINDS
        categories = np.where(found, _of_object(video.object_categories[None], objects), categories)
    return MendedTracks(origin, objects, sources, iou, categories)


def outcome(video: Relations, mends: Collection[Mend] = ()) -> Outcome:
    """Mend the tracks of a video and match them with its objects as ``evaluate_vis`` does.

    A predicted track is a false positive after mending if it was one before, unless mending turned it into a
    duplicate: those are removed. Pieces that match nothing do not count.
    """
    count = len(video.scores)
    tracks = mend(video, mends)
    assigned = video.assign(tracks.iou, tracks.categories, video.scores[tracks.origin])
    true, free = _matched(assigned, video.crowd), assigned < 0
    # a removed track was free before and has become, or was already, a duplicate
    duplicate = _duplicates(video, assigned, tracks.iou, tracks.objects, tracks.categories)[:, :count]
    before = _duplicates(video, video.assigned, video.iou, video.target, video.categories)
    was_false = video.assigned < 0
    false = free[:, :count] & was_false & (before | ~duplicate)
    removed = np.zeros_like(false)
    if Mend.DUPLICATES in mends:
        removed |= false & before
    if Mend.FALSE in mends:
        removed |= false & (video.target < 0)
    false &= ~removed

    # a mended class counts where it matches; where it does not, the track stays false in the category it had
    recast = np.flatnonzero(tracks.categories[:count] != video.categories)
    stays_false = np.zeros_like(true)
    stays_false[:, :count] = false
    stays_false[:, recast] = False
    remains = ~(video.crowd | (video.missed if Mend.MISSED in mends else False))
    edited = _edited(video, tracks.sources[:count])
    edited[recast] = True
    changed = video.missed if Mend.MISSED in mends else edited | removed[0]
    # AP ranks equal scores by their order here, so both rows of a recast track keep its place
    order = np.argsort(np.concatenate([np.arange(len(tracks.origin)), recast]), kind='stable')
    return Outcome(
        categories=np.concatenate([tracks.categories, video.categories[recast]])[order],
        scores=np.concatenate([video.scores[tracks.origin], video.scores[recast]])[order],
        true=np.concatenate([true, np.zeros_like(true[:, :len(recast)])], axis=1)[:, order],
        false=np.concatenate([stays_false, false[:, recast]], axis=1)[:, order],
        objects=video.object_categories[remains],
        changed=int(changed.sum()))


def kinds_of_tracks(video: Relations) -> dict[str, int]:
    """Count the predicted tracks of each kind at overlap threshold .50; every track is of exactly one.

    Returns:
        ``matched``, ``ignored`` (matched with a crowd), ``duplicate``, ``class`` (finds an object under a wrong class),
        ``false`` (on no object), ``inexact`` (on an object that it overlaps too little).
    """
    true, free = _matched(video.assigned, video.crowd)[0], video.assigned[0] < 0
    duplicate = _duplicates(video, video.assigned, video.iou, video.target, video.categories)[0]
    wrong = free & (_of_object(video.iou, video.target) >= FINDS) & (
        video.categories != _of_object(video.object_categories[None], video.target))
    false = free & (video.target < 0)
    kinds = {'matched': true, 'ignored': ~free & ~true, 'duplicate': duplicate, 'class': wrong, 'false': false,
             'inexact': free & ~duplicate & ~wrong & ~false}
    return {name: int(members.sum()) for name, members in kinds.items()}


def _edited(video: Relations, sources: np.ndarray) -> np.ndarray:
    """(D,) bool: a mask differs from the predicted one; an object's mask may be the same pixels. Sources: (D, T)."""
    count = len(sources)
    edited = sources != np.where(video.areas[:count] > 0, np.arange(count)[:, None], -1)
    rows, frames = np.nonzero(sources >= count)
    exact = sources[rows, frames]
    common = video.intersections[frames, rows, exact - count]
    edited[rows, frames] = (common < video.areas[rows, frames]) | (common < video.areas[exact, frames])
    return edited.any(1)


def _matched(assigned: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """(S, U) bool: matched with an object that counts."""
    return (assigned >= 0) & ~np.append(crowd, True)[assigned]


def _duplicates(video: Relations, assigned: np.ndarray, iou: np.ndarray, objects: np.ndarray,
                categories: np.ndarray) -> np.ndarray:
    """(S, U) bool: unmatched, but finds an object of its category which another track is matched with."""
    taken = np.zeros((len(assigned), len(video.crowd) + 1), bool)
    np.put_along_axis(taken, np.where(assigned >= 0, assigned, len(video.crowd)), True, axis=1)
    taken[:, -1] = False
    finds = (_of_object(iou, objects) >= FINDS) & (
        categories == _of_object(video.object_categories[None], objects))
    return (assigned < 0) & finds & taken[:, objects]


def _of_object(values: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """(U,) of (U or 1, G): the value for each track's own object; -1 where there is none."""
    padded = np.concatenate([values, np.full((len(values), 1), -1, values.dtype)], axis=1)
    return np.take_along_axis(np.broadcast_to(padded, (len(objects), padded.shape[1])), objects[:, None], axis=1)[:, 0]
