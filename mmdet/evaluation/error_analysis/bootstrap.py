"""AP of resampled videos: point estimates and bootstrap intervals from outcomes that were matched once.

A resample draws as many videos as there are, with replacement. It is a weight for each video, so that AP of all
resamples is a few matrix products, and every number that is compared sees the same resamples (paired bootstrap).

Symbols: B resamples, V videos, K categories, S overlap thresholds, N tracks of all videos.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmdet.evaluation.error_analysis.oracles import Outcome
from mmdet.evaluation.functional.video_ap import IOU_THRESHOLDS, RECALL_POINTS

LEVEL = 95.0  # percent of the intervals
MAX_RESAMPLES = 20_000  # more take gigabytes of memory and change the intervals little


@dataclass
class Estimate:
    """A number of all videos and its 95 % bootstrap interval (percentiles); nan where it is not defined."""

    value: float
    low: float
    high: float


def resamples(videos: int, count: int, seed: int = 0) -> np.ndarray:
    """Draw how often each video is in each resample, (1 + count, videos) float64; row 0, all ones, is the data."""
    drawn = np.random.default_rng(seed).multinomial(videos, np.full(videos, 1 / videos), count)
    return np.concatenate([np.ones((1, videos)), drawn])


def estimate(values: np.ndarray) -> Estimate:
    """Value and interval of (B,) numbers of the rows of :func:`resamples`; undefined resamples (nan) are left out."""
    drawn = values[1:][~np.isnan(values[1:])]
    if not len(drawn):
        return Estimate(float(values[0]), np.nan, np.nan)
    low, high = np.percentile(drawn, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return Estimate(float(values[0]), float(low), float(high))


class AveragePrecision:
    """AP of the outcomes of all videos under given weights.

    Args:
        weights: (B, V) from :func:`resamples`.
        originals: outcomes of the V videos without mending: they say which categories are annotated. A category that a
            resample has no object of does not count in it; one whose objects mending has all removed has AP 1.
    """

    def __init__(self, weights: np.ndarray, originals: Sequence[Outcome]) -> None:
        self.weights = weights
        self.categories = sorted(set(np.concatenate([outcome.objects for outcome in originals]).tolist()))
        self.annotated = self._positives(originals) > 0  # (B, K)

    def __call__(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """AP at each overlap threshold.

        Args:
            outcomes: of the V videos, in the order of the weights.

        Returns:
            (B, S) in [0, 1], the means over the annotated categories; nan where there are none. The mean over S of the
            first row is AP as ``evaluate_vis`` computes it.
        """
        positives = self._positives(outcomes)
        video = np.repeat(np.arange(len(outcomes)), [len(outcome.scores) for outcome in outcomes])
        scores, categories = (np.concatenate([getattr(outcome, name) for outcome in outcomes])
                              for name in ('scores', 'categories'))
        true, false = (np.concatenate([getattr(outcome, name) for outcome in outcomes], axis=1)
                       for name in ('true', 'false'))
        total = np.zeros((len(self.weights), len(IOU_THRESHOLDS)))
        for column, category in enumerate(self.categories):
            rows = np.flatnonzero(categories == category)
            rows = rows[np.argsort(-scores[rows], kind='stable')]
            for place in range(len(IOU_THRESHOLDS)):
                found = self._of_category(video[rows], true[place, rows], false[place, rows], positives[:, column])
                total[:, place] += np.where(self.annotated[:, column], found, 0)
        count = self.annotated.sum(1, keepdims=True)
        return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)

    def _positives(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """(B, K) objects."""
        counts = [[np.count_nonzero(outcome.objects == category) for category in self.categories]
                  for outcome in outcomes]
        return self.weights @ np.array(counts, float).reshape(len(outcomes), len(self.categories))

    def _of_category(self, video: np.ndarray, true: np.ndarray, false: np.ndarray, positives: np.ndarray) -> np.ndarray:
        """AP (B,) of one category and threshold.

        Precision falls at false positives, so its envelope and the recall points need the E true positives only.

        Args:
            video: (N,) index. true, false: (N,) bool. All in descending order of score. positives: (B,).
        """
        hits = np.flatnonzero(true)
        between = np.zeros((self.weights.shape[1], len(hits) + 1))  # false positives of a video before each hit
        misses = np.flatnonzero(false)
        np.add.at(between, (video[misses], np.searchsorted(hits, misses)), 1)
        false_positives = np.cumsum(self.weights @ between[:, :-1], axis=1)  # (B, E)
        true_positives = np.cumsum(self.weights[:, video[hits]], axis=1)
        precision = true_positives / (true_positives + false_positives + np.spacing(1))
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        recall = true_positives / np.maximum(positives, 1)[:, None]
        reached = np.searchsorted(RECALL_POINTS, recall, side='right')
        average = (precision * np.diff(reached, axis=1, prepend=0)).sum(1) / len(RECALL_POINTS)
        return np.where(positives > 0, average, 1)
