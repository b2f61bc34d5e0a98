"""Difference in AP between variants of a model that were each trained with several seeds."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from mmdet.evaluation.error_analysis.analysis import PROGRESS, relate_videos
from mmdet.evaluation.error_analysis.bootstrap import AveragePrecision, Estimate, estimate, resamples
from mmdet.evaluation.error_analysis.oracles import outcome
from mmdet.evaluation.functional.scored_tracks import GroundTruth
from mmdet.structures.vis_json import Track


def mean_difference(truth: GroundTruth, baseline: Sequence[Sequence[Track]],
                    others: Sequence[Sequence[Sequence[Track]]], count: int = 1000, seed: int = 0) -> list[Estimate]:
    """Estimate the mean AP over the seeds of each variant minus that of the baseline, paired over the videos.

    The interval shows how the difference depends on the choice of the videos; the seeds are taken as they are.

    Args:
        truth: annotations.
        baseline: tracks of each seed of the baseline, as :func:`read_predictions` checked them.
        others: the same of each variant. The numbers of seeds may differ.
        count: resamples of the bootstrap over videos. seed: of its random numbers.

    Returns:
        For each variant the difference in AP, in [−1, 1], with its 95 % interval.
    """
    weights = resamples(len(truth.videos), count if len(truth.videos) > 1 else 0, seed)
    runs = [*baseline, *(run for variant in others for run in variant)]
    scores = iter([_average_precision(truth, run, weights) for run in tqdm(runs, unit=' results', **PROGRESS)])

    def mean(variant: Sequence[Sequence[Track]]) -> np.ndarray:
        return np.mean([next(scores) for _ in variant], axis=0)

    base = mean(baseline)
    return [estimate(mean(variant) - base) for variant in others]


def _average_precision(truth: GroundTruth, tracks: Sequence[Track], weights: np.ndarray) -> np.ndarray:
    """AP (B,) of the resamples."""
    outcomes = [outcome(video) for video in relate_videos(truth, tracks)]
    return AveragePrecision(weights, outcomes)(outcomes).mean(1)
