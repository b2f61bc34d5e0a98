"""The definitions of docs/error_analysis.md in plain loops over decoded masks: slow, and independent of the package.

A track is (mask (T, H, W) bool, category, score), an object (mask, category, crowd). Symbols: p tracks, g, h objects.
"""
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

THRESHOLDS = np.linspace(.5, .95, 10)


def iou(a, b):
    union = (a | b).sum()
    return (a & b).sum() / union if union else 0.


def decoded(track, video):
    return np.stack([np.zeros((video.height, video.width), bool) if rle is None else coco_mask.decode(rle).astype(bool)
                     for rle in track.rles])


def match(tracks, objects, threshold):
    """The object of each track, -1: none. Tracks in descending order of score; of equal overlaps, the last object."""
    found, taken = [], set()
    for mask, category, _ in tracks:
        rated = [(not objects[g][2], iou(mask, objects[g][0]), g) for g in range(len(objects))
                 if objects[g][1] == category and g not in taken]
        rated = [entry for entry in rated if entry[1] >= threshold]
        found.append(max(rated)[2] if rated else -1)
        taken |= {found[-1]} if rated and not objects[found[-1]][2] else set()
    return found


@dataclass
class Video:
    """The relations of the tracks and objects of a video, see docs/error_analysis.md."""

    tracks: list
    objects: list

    def __post_init__(self):
        self.real = [g for g, (_, _, crowd) in enumerate(self.objects) if not crowd]
        self.length = len((self.tracks + self.objects)[0][0]) if self.tracks or self.objects else 0
        self.matches = [match(self.tracks, self.objects, threshold) for threshold in THRESHOLDS]
        self.targets = [self.target(p) for p in range(len(self.tracks))]
        frames = range(self.length)
        self.foreign = [[self.foreign_object(p, t) for t in frames] for p in range(len(self.tracks))]
        self.own = [[self.foreign[p][t] < 0 <= self.targets[p] and self.at(p, self.targets[p], t) >= .1 for t in frames]
                    for p in range(len(self.tracks))]
        self.cover = {g: [self.covering(g, t) for t in frames] for g in self.real}
        self.missed = [g for g in self.real if g not in self.targets and not any(g in row for row in self.foreign)]

    def at(self, p, g, t):
        return iou(self.tracks[p][0][t], self.objects[g][0][t])

    def target(self, p):
        for found in self.matches:
            if found[p] in self.real:
                return found[p]
        mask, category, _ = self.tracks[p]
        touched = [(iou(mask, self.objects[g][0]), self.objects[g][1] == category, -g) for g in self.real
                   if any(self.at(p, g, t) >= .1 for t in range(self.length))]
        return -max(touched)[2] if touched else -1

    def foreign_object(self, p, t):
        others = [(self.at(p, h, t), -h) for h in self.real if h != self.targets[p] and self.at(p, h, t) >= .5]
        free = self.targets[p] < 0 or self.at(p, self.targets[p], t) < .5
        return -max(others)[1] if others and free else -1

    def covering(self, g, t):
        found = [(self.at(p, g, t), -p) for p in range(len(self.tracks)) if self.at(p, g, t) >= .5]
        return -max(found)[1] if found else -1

    def finds(self, mask, g):
        return g >= 0 and iou(mask, self.objects[g][0]) >= .5

    def is_duplicate(self, found, p, track, target):
        return (found[p] < 0 and self.finds(track[0], target) and self.objects[target][1] == track[1]
                and target in found[:p] + found[p + 1:])

    def kind(self, p):
        found, target = self.matches[0], self.targets[p]
        if found[p] >= 0:
            return 'matched' if found[p] in self.real else 'ignored'
        if self.is_duplicate(found, p, self.tracks[p], target):
            return 'duplicate'
        if self.finds(self.tracks[p][0], target) and self.objects[target][1] != self.tracks[p][1]:
            return 'class'
        return 'false' if target < 0 else 'inexact'

    def mended_mask(self, p, target, kept, own, mends):
        """The mask of a track or piece whose own mask is kept in some frames."""
        mask, alive = np.zeros_like(self.tracks[p][0]), np.flatnonzero(own)
        for t in range(self.length):
            if kept[t]:
                mask[t] = self.tracks[p][0][t]
            if target < 0:
                continue
            exact = self.objects[target][0][t]
            if kept[t]:
                replaced = 'masks' in mends and self.foreign[p][t] in (-1, target)
            elif not exact.any():
                replaced = False
            elif self.cover[target][t] >= 0:
                if 'join' in mends:
                    mask[t] = self.tracks[self.cover[target][t]][0][t]
                replaced = {'join', 'masks'} <= mends
            else:
                replaced = ('masks' if len(alive) and alive[0] <= t <= alive[-1] else 'extent') in mends
            mask[t] = exact if replaced else mask[t]
        return mask

    def mended(self, mends):
        """Tracks, then pieces: mask, category, score; their targets."""
        parts = [(p, self.targets[p], [mask[t].any() and not ('cut' in mends and self.foreign[p][t] >= 0)
                                       for t in range(self.length)], self.own[p])
                 for p, (mask, _, _) in enumerate(self.tracks)]
        if 'cut' in mends:
            for p, row in enumerate(self.foreign):
                parts += [(p, h, *[[other == h for other in row]] * 2) for h in sorted({*row} - {-1})]
        tracks = []
        for p, target, kept, own in parts:
            mask = self.mended_mask(p, target, kept, own, mends)
            category = self.objects[target][1] if 'class' in mends and self.finds(mask, target) else self.tracks[p][1]
            tracks.append((mask, category, self.tracks[p][2]))
        return tracks, [target for _, target, _, _ in parts]

    def outcome(self, mends):
        """(category, score, whether true) of the tracks that count, by threshold; objects by category; changes."""
        tracks, targets = self.mended(mends)
        ranked = sorted(range(len(tracks)), key=lambda p: -tracks[p][2])
        changed = [track[1] != old[1] or (track[0] != old[0]).any() for track, old in zip(tracks, self.tracks)]
        rows = []
        for before, threshold in zip(self.matches, THRESHOLDS):
            in_order = dict(zip(ranked, match([tracks[p] for p in ranked], self.objects, threshold)))
            found, counted = [in_order[p] for p in range(len(tracks))], []
            for p, track in enumerate(tracks):
                if found[p] in self.real:
                    counted.append((track[1], track[2], True))
                elif found[p] < 0 and p < len(self.tracks) and before[p] < 0:
                    old = self.tracks[p]
                    was_duplicate = self.is_duplicate(before, p, old, self.targets[p])
                    if ('duplicates' in mends and was_duplicate) or ('false' in mends and self.targets[p] < 0):
                        changed[p] |= threshold == .5
                    elif was_duplicate or not self.is_duplicate(found, p, track, targets[p]):
                        counted.append((old[1], old[2], False))
            rows.append(counted)
        left = [g for g in self.real if not ('missed' in mends and g in self.missed)]
        count = len(self.missed) if mends == {'missed'} else sum(changed)
        return rows, Counter(self.objects[g][1] for g in left), count


def videos_of(truth, predictions):
    """The relations of each video; no more than 100 tracks of a video and category."""
    found, annotated = defaultdict(list), defaultdict(list)
    for track in sorted(predictions, key=lambda track: -track.score):
        found[track.video_id].append((decoded(track, truth.videos[track.video_id]), track.category_id, track.score))
    for track in truth.tracks:
        annotated[track.video_id].append((decoded(track, truth.videos[track.video_id]), track.category_id, track.crowd))
    return [Video(found[key], annotated[key]) for key in sorted(truth.videos)]


def corrected(videos, mends):
    """AP after the correction, and the number of changes."""
    outcomes = [video.outcome(mends) for video in videos]
    categories = {video.objects[g][1] for video in videos for g in video.real}
    values = []
    for category in categories:
        positives = sum(objects[category] for _, objects, _ in outcomes)
        for place in range(len(THRESHOLDS)):
            counted = [(score, true) for rows, _, _ in outcomes for key, score, true in rows[place] if key == category]
            values.append(average_precision(counted, positives))
    return np.mean(values), sum(changed for _, _, changed in outcomes)


def average_precision(counted, positives):
    """AP of (score, whether true) at 101 recall points; 1 if no object is left."""
    true = np.cumsum([flag for _, flag in sorted(counted, key=lambda entry: -entry[0])])
    precision, recall = true / np.arange(1, len(true) + 1), true / max(positives, 1)
    points = [max(precision[recall >= point], default=0.) for point in np.linspace(0, 1, 101)]
    return np.mean(points) if positives else 1.
