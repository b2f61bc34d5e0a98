"""Calibration: whether track scores are probabilities of being right, and box uncertainties standard deviations.

Symbols: N tracks or boxes, T frames, G objects.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask
from scipy.stats import norm, spearmanr

from mmdet.evaluation.frame_results import BOX_VALUES, ROW_VALUES, FrameResult
from mmdet.structures.result_tracks import xywh_boxes
from mmdet.structures.vis_json import Track, Video

BINS = 10
COVERAGES = np.linspace(.1, .9, 9)  # nominal probabilities of the central intervals
SAME_BOX = 0.5  # IoU of boxes from which a predicted box is compared with an annotated one


@dataclass
class ScoreCalibration:
    """Track scores against how often tracks match an object at overlap threshold .50.

    Attributes:
        counts: tracks in each of ten equal ranges of the score from 0 to 1.
        mean_scores, precisions: of these tracks; nan where there are none.
        error: expected calibration error, the mean of |score - precision| over the bins by their counts, in [0, 1].
        brier: mean squared difference of score and outcome (1: matched, 0: not).
    """

    counts: np.ndarray
    mean_scores: np.ndarray
    precisions: np.ndarray
    error: float
    brier: float


@dataclass
class UncertaintyCalibration:
    """The estimated standard deviations of box sides against the sides' errors.

    Attributes:
        boxes: number of predicted boxes compared.
        nominal, observed: probability of central intervals under the estimated normal distributions, and the share of
            errors inside them; equal where the uncertainties are calibrated.
        error: mean of |nominal - observed|.
        rms_z: root mean square of error / standard deviation; 1 if calibrated, below 1 if the uncertainties are too
            large.
        mean_sigma, rms_error: of all sides, relative to the image's width or height.
        rank_correlation: Spearman's, of a box's mean standard deviation and 1 - IoU; 1 if the most uncertain boxes are
            the worst, nan where one of the two is constant.
    """

    boxes: int
    nominal: np.ndarray
    observed: np.ndarray
    error: float
    rms_z: float
    mean_sigma: float
    rms_error: float
    rank_correlation: float


def calibrate_scores(scores: np.ndarray, matched: np.ndarray) -> ScoreCalibration | None:
    """Compare scores with outcomes.

    Args:
        scores: (N,). matched: (N,) bool.

    Returns:
        None where there are no tracks, or scores that are no probabilities (outside of [0, 1]).
    """
    if not len(scores) or scores.min() < 0 or scores.max() > 1:
        return None
    place = np.minimum((scores * BINS).astype(int), BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    with np.errstate(invalid='ignore'):
        mean_scores = np.bincount(place, scores, BINS) / counts
        precisions = np.bincount(place, matched, BINS) / counts
    error = np.nansum(counts * np.abs(mean_scores - precisions)) / len(scores)
    return ScoreCalibration(counts, mean_scores, precisions, float(error), float(np.mean((scores - matched) ** 2)))


def calibrate_uncertainties(videos: Sequence[Video], frames: Sequence[Sequence[FrameResult]],
                            annotations: Sequence[Track]) -> UncertaintyCalibration | None:
    """Compare the uncertainties of all boxes of a result with the errors of the boxes.

    A predicted box is compared with the annotated box of its frame that it overlaps most, of whatever category, from
    IoU 0.5 on. An uncertainty is the standard deviation of x1, y1, x2 or y2 relative to the image's width or height.

    Args:
        videos: of the annotation file. frames: of each video.
        annotations: its tracks; boxes are those of the masks where the file has none.

    Returns:
        None where no box has uncertainties or lies on an object.
    """
    objects: dict[int, list[np.ndarray]] = {video.id: [] for video in videos}
    for track in annotations:
        if not track.crowd:
            objects[track.video_id].append(track.mask_boxes() if track.boxes is None else track.boxes)
    pairs = [_frame_pairs(frame.rows, np.stack([boxes[index] for boxes in objects[video.id]]), video)
             for video, of_video in zip(videos, frames) if objects[video.id]
             for index, frame in enumerate(of_video) if frame.rows.shape[1] == ROW_VALUES and len(frame.rows)]
    rows = np.concatenate([np.zeros((0, 9)), *pairs])
    if not len(rows):
        return None
    errors, sigmas, overlaps = rows[:, :4], rows[:, 4:8], rows[:, 8]
    # 0 / 0: an exact side whose uncertainty is 0
    z = np.divide(np.abs(errors), sigmas, out=np.where(errors == 0, 0, np.inf), where=sigmas > 0)
    observed = (z[..., None] <= norm.ppf((1 + COVERAGES) / 2)).mean((0, 1))
    mean_sigmas = sigmas.mean(1)
    varied = np.ptp(mean_sigmas) > 0 and np.ptp(overlaps) > 0
    return UncertaintyCalibration(
        len(rows), COVERAGES, observed, float(np.abs(observed - COVERAGES).mean()), float(np.sqrt((z ** 2).mean())),
        float(sigmas.mean()), float(np.sqrt((errors ** 2).mean())),
        float(spearmanr(mean_sigmas, 1 - overlaps).statistic) if varied else np.nan)


def _frame_pairs(rows: np.ndarray, annotated: np.ndarray, video: Video) -> np.ndarray:
    """(n, 9) of the predicted boxes that lie on an object: four relative errors, four uncertainties, IoU.

    Args:
        rows: (D, 10) of :class:`FrameResult`. annotated: (G, 4) x, y, w, h, zeros where absent.
    """
    annotated = annotated[annotated[:, 2:].prod(1) > 0]
    if not len(annotated):
        return np.zeros((0, 9))
    overlaps = coco_mask.iou(xywh_boxes(rows), annotated, [0] * len(annotated))
    best, overlap = overlaps.argmax(1), overlaps.max(1)
    corners = np.concatenate([annotated[:, :2], annotated[:, :2] + annotated[:, 2:] - 1], axis=1)
    extent = np.array([video.width, video.height] * 2)
    pairs = np.concatenate([(rows[:, :4] - corners[best]) / extent, rows[:, BOX_VALUES:BOX_VALUES + 4],
                            overlap[:, None]], axis=1)
    return pairs[overlap >= SAME_BOX]
