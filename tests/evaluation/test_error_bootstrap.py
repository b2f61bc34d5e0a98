"""Bootstrap over videos: weights are copies of videos, intervals are percentiles, comparisons are paired."""
import numpy as np
import pytest
from squares import annotation, prediction, square, truth

from mmdet.apis.report_errors import error_section
from mmdet.errors import UserError
from mmdet.evaluation.error_analysis import (
    AveragePrecision,
    analyse_errors,
    estimate,
    mean_difference,
    outcome,
    relate_videos,
    resamples,
)
from mmdet.evaluation.error_analysis.report import format_analysis
from mmdet.evaluation.functional import evaluate_vis, read_ground_truth, read_predictions

A, B = square(0), square(60)


def several_videos(seed, videos=5):
    """Videos with one to three objects of two categories, each found with some overlap, and false tracks."""
    rng = np.random.default_rng(seed)
    annotations, predictions = [], []
    for video in range(1, videos + 1):
        for row in range(int(rng.integers(1, 4))):
            category = int(rng.integers(1, 3))
            annotations.append(annotation(len(annotations) + 1, [square(0, 60 * row)] * 2, category, video))
            for _ in range(int(rng.integers(0, 3))):
                x = int(rng.choice([0, 2, 4, 6, 90]))
                predictions.append(prediction([square(x, 60 * row)] * 2, float(rng.random()), category, video))
    return truth(*annotations, videos=range(1, videos + 1), categories=(1, 2)), predictions


def copied(content, predictions, counts):
    """The files of a resample: each video as often as it was drawn, under new ids."""
    videos, annotations, found = [], [], []
    for video, count in zip(content['videos'], counts):
        for _ in range(count):
            ident = len(videos) + 1
            videos.append(video | dict(id=ident))
            annotations += [entry | dict(video_id=ident, id=len(annotations) + place)
                            for place, entry in enumerate(entry for entry in content['annotations']
                                                          if entry['video_id'] == video['id'])]
            found += [entry | dict(video_id=ident) for entry in predictions if entry['video_id'] == video['id']]
    return content | dict(videos=videos, annotations=annotations), found


@pytest.mark.parametrize('seed', range(4))
def test_a_weight_is_a_number_of_copies(seed):
    content, predictions = several_videos(seed)
    ground_truth = read_ground_truth(content)
    originals = [outcome(video) for video in relate_videos(ground_truth, read_predictions(predictions, ground_truth))]
    weights = resamples(5, 6, seed)
    values = AveragePrecision(weights, originals)(originals)
    assert (weights[0] == 1).all() and (weights.sum(1) == 5).all()
    for row, counts in zip(values, weights.astype(int)):
        result = evaluate_vis(*copied(content, predictions, counts))
        assert row.mean() == pytest.approx(result.statistics['AP'], abs=1e-12)
        assert row[0] == pytest.approx(result.statistics['AP50'], abs=1e-12)


def test_resamples_without_objects_are_left_out():
    content = truth(annotation(1, [A, A]), videos=(1, 2))
    ground_truth = read_ground_truth(content)
    analysis = analyse_errors(ground_truth, read_predictions([prediction([A, A])], ground_truth), count=50)
    found = analysis.statistics['AP']
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))


def test_category_ids_are_compared_exactly():
    """Ids that are equal as float64."""
    ids = (2 ** 53, 2 ** 53 + 1)
    content = truth(annotation(1, [A, A], ids[0]), annotation(2, [B, B], ids[1]), categories=ids)
    ground_truth = read_ground_truth(content)
    tracks = read_predictions([prediction([A, A], category=ids[1]), prediction([B, B], category=ids[1])], ground_truth)
    analysis = analyse_errors(ground_truth, tracks, count=1)
    assert analysis.statistics['AP'].value == pytest.approx(.25) and analysis.gains['class'].mended == pytest.approx(1)


def test_a_single_video_has_no_intervals():
    content = truth(annotation(1, [A, A]), annotation(2, [B, B]))
    ground_truth = read_ground_truth(content)
    tracks = read_predictions([prediction([A, A])], ground_truth)
    analysis = analyse_errors(ground_truth, tracks, tracks, count=50)
    found = analysis.statistics['AP']
    assert found.value == pytest.approx(51 / 101) and np.isnan([found.low, found.high]).all()
    assert analysis.against is not None and np.isnan(analysis.against['AP'].low) and analysis.resamples == 0
    text = format_analysis(analysis)
    assert 'nan' not in text and '1 video, 2 objects, 1 track; 0 resamples of the videos' in text
    section = error_section(ground_truth, tracks, None)
    assert section.note.startswith('No intervals: there is one video.') and section.scale > 0


def test_intervals_are_percentiles():
    values = np.concatenate([[.3], np.arange(1001) / 1000, [np.nan]])
    found = estimate(values)
    assert (found.value, found.low, found.high) == pytest.approx((.3, .025, .975))


def test_the_interval_covers_a_known_share():
    """100 videos of one object each, 30 of them found first of all: AP = its recall's points; binomial deviation."""
    content = truth(*[annotation(i, [A, A], video=i) for i in range(1, 101)], videos=range(1, 101))
    ground_truth = read_ground_truth(content)
    tracks = read_predictions([prediction([A, A], video=i) for i in range(1, 31)], ground_truth)
    found = analyse_errors(ground_truth, tracks, count=2000).statistics['AP50']
    deviation = np.sqrt(.3 * .7 / 100)
    assert found.value == pytest.approx(31 / 101)
    assert (found.low, found.high) == pytest.approx((.3 - 1.96 * deviation, .3 + 1.96 * deviation), abs=.02)


def test_comparisons_are_paired():
    """A result that is better by one false track in each video: the paired interval is far from 0 although AP varies.

    Video i has a missed object if it is odd, so that AP itself depends on the videos drawn.
    """
    annotations = [annotation(i, [A, A], video=i) for i in range(1, 21)]
    annotations += [annotation(20 + i, [B, B], video=i) for i in range(1, 21, 2)]
    ground_truth = read_ground_truth(truth(*annotations, videos=range(1, 21)))
    found = [prediction([A, A], .5, video=i) for i in range(1, 21)]
    false = [prediction([square(120)] * 2, .9, video=i) for i in range(1, 21)]
    good, bad = (read_predictions(entries, ground_truth) for entries in (found, found + false))
    analysis = analyse_errors(ground_truth, bad, good, count=300)
    assert analysis.against['AP'].value == pytest.approx(67 / 101 / 2)  # recall 2/3; precision 1 instead of 1/2
    assert analysis.against['AP'].low > .25
    assert analysis.gains['false tracks'].against.value == pytest.approx(-67 / 101 / 2)
    same = analyse_errors(ground_truth, bad, bad, count=300)
    assert {(number.value, number.low, number.high) for number in same.against.values()} == {(0, 0, 0)}
    assert all(gain.against.low == gain.against.high == 0 for gain in same.gains.values())


def test_the_difference_of_several_seeds_is_that_of_their_means():
    content, predictions = several_videos(0, videos=8)
    ground_truth = read_ground_truth(content)
    runs = [read_predictions(predictions[start:], ground_truth) for start in (0, 2, 4)]
    single = [analyse_errors(ground_truth, runs[0], run, count=60).against['AP'] for run in runs]
    same, one, two = mean_difference(ground_truth, runs[:1], [runs[:1], runs[1:2], runs[1:]], count=60)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert (one.value, one.low, one.high) == pytest.approx((single[1].value, single[1].low, single[1].high))
    assert two.value == pytest.approx((single[1].value + single[2].value) / 2)
    back, = mean_difference(ground_truth, runs[1:], [runs[:1]], count=60)
    assert (back.value, back.low, back.high) == pytest.approx((-two.value, -two.high, -two.low))


def test_a_seed_gives_the_same_intervals():
    content, predictions = several_videos(1)
    ground_truth = read_ground_truth(content)
    tracks = read_predictions(predictions, ground_truth)
    first, again, other = (analyse_errors(ground_truth, tracks, count=50, seed=seed).statistics['AP']
                           for seed in (3, 3, 4))
    assert first == again and first != other and first.value == other.value


def test_crowds_only_cannot_be_analysed():
    ground_truth = read_ground_truth(truth(annotation(1, [A, A]) | dict(iscrowd=1)))
    with pytest.raises(UserError, match='ground truth: has no annotations'):
        analyse_errors(ground_truth, [])
