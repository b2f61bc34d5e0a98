"""Calibration of scores and of box uncertainties: closed forms, and data drawn from the distributions estimated."""
import numpy as np
import pytest
from squares import annotation, square, truth

from mmdet.evaluation.error_analysis import calibrate_scores, calibrate_uncertainties
from mmdet.evaluation.frame_results import FrameResult
from mmdet.evaluation.functional import read_ground_truth

SIZE = 200


def test_scores_that_are_probabilities_have_no_error():
    scores = np.repeat([.25, .75], 4)
    found = calibrate_scores(scores, np.array([1, 0, 0, 0, 1, 1, 1, 0], bool))
    assert found.error == pytest.approx(0) and found.brier == pytest.approx(.25 * .75)
    assert found.counts.tolist() == [0, 0, 4, 0, 0, 0, 0, 4, 0, 0]
    assert found.precisions[[2, 7]] == pytest.approx([.25, .75]) and np.isnan(found.precisions[0])


@pytest.mark.parametrize(('matched', 'error'), [(False, 1), (True, 0)])
def test_the_error_of_certain_scores(matched, error):
    found = calibrate_scores(np.ones(3), np.full(3, matched))
    assert found.error == found.brier == error


@pytest.mark.parametrize('scores', [[], [1.5, .2], [-.1]])
def test_scores_that_are_no_probabilities(scores):
    assert calibrate_scores(np.array(scores), np.zeros(len(scores), bool)) is None


def boxes_with_errors(sigma, claimed, frames=400, seed=0):
    """A square of side 100 at (40, 40), predicted with normal errors of ``sigma`` · image; x2 and y2 are inclusive."""
    rng = np.random.default_rng(seed)
    ground_truth = read_ground_truth(truth(annotation(1, [square(40, 40, 100)] * frames), length=frames))
    corners = np.array([40, 40, 139, 139]) + rng.normal(0, sigma * SIZE, (frames, 4))
    rows = np.concatenate([corners, np.full((frames, 1), .9), np.broadcast_to(claimed, (frames, 4)),
                           np.full((frames, 1), .5)], axis=1).astype(np.float32)
    results = [FrameResult([0], [0], row[None], ['']) for row in rows]
    return list(ground_truth.videos.values()), [results], ground_truth.tracks


def test_uncertainties_that_are_standard_deviations():
    found = calibrate_uncertainties(*boxes_with_errors(.02, .02))
    assert found.boxes == 400 and found.error < .02
    assert found.observed == pytest.approx(found.nominal, abs=.03)
    assert (found.rms_z, found.rms_error, found.mean_sigma) == pytest.approx((1, .02, .02), rel=.05)
    assert np.isnan(found.rank_correlation)  # they are all the same


def test_uncertainties_five_times_too_large():
    found = calibrate_uncertainties(*boxes_with_errors(.02, .1))
    assert found.rms_z == pytest.approx(.2, rel=.05) and (found.observed > found.nominal).all()


def test_uncertainties_that_rank_the_boxes():
    claimed = np.repeat([.005, .04], 200)[:, None]
    ranked = calibrate_uncertainties(*boxes_with_errors(claimed, claimed))
    assert ranked.rank_correlation > .8 and ranked.rms_z == pytest.approx(1, rel=.06)


def test_exact_boxes():
    found = calibrate_uncertainties(*boxes_with_errors(0, .1, frames=3))
    assert found.rms_z == found.rms_error == 0 and (found.observed == 1).all()


def test_boxes_beside_objects_and_results_without_uncertainties_are_left_out():
    videos, (results,), annotations = boxes_with_errors(0, .1, frames=3)
    results[0].rows[:, :4] += 100
    assert calibrate_uncertainties(videos, [results], annotations).boxes == 2
    for frame in results:
        frame.rows = frame.rows[:, :5]
    assert calibrate_uncertainties(videos, [results], annotations) is None
