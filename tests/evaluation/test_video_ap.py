"""Video AP in closed form and in comparison with the official tools."""
import json
from pathlib import Path

import numpy as np
import pytest
from squares import NONE, annotation, prediction, square, truth

from mmdet.evaluation.functional import evaluate_vis, match_tracks, precision_recall, video_box_iou, video_mask_iou
from mmdet.structures.masks import encode_masks

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden'
def ap(ground_truth, predictions, name='AP', metric='segm'):
    return evaluate_vis(ground_truth, predictions, metric).statistics[name]


A, B, C = square(0), square(60), square(120)


def test_perfect_result():
    result = evaluate_vis(truth(annotation(1, [A, B]), annotation(2, [B, C], category=7), categories=(7, 1)),
                          [prediction([A, B]), prediction([B, C], category=7)])
    expected = dict(AP=1, AP50=1, AP75=1, APs=1, APm=-1, APl=-1, AR1=1, AR10=1, AR100=1, ARs=1, ARm=-1, ARl=-1)
    assert list(result.statistics) == list(expected)
    assert result.statistics == pytest.approx(expected)
    assert result.per_category == pytest.approx({1: 1, 7: 1})
    assert result.category_names == {1: 'class 1', 7: 'class 7'}
    assert result.precision.shape == (10, 101, 2, 4, 3)
    assert result.recall.shape == (10, 2, 4, 3)


@pytest.mark.parametrize(('frames', 'iou'), [
    ([A, B], 1), ([C, C], 0), ([A, C], 1 / 3), ([A, NONE], 1 / 2), ([NONE, NONE], 0), ([B, A], 0),
], ids=['same', 'elsewhere', 'half the frames right', 'half the frames there', 'nowhere', 'swapped in time'])
def test_video_iou_sums_over_frames(frames, iou):
    """AP of one prediction is the share of thresholds up to its IoU."""
    expected = np.mean(np.minimum(np.linspace(.5, .95, 10), 1 - 1e-10) <= iou)
    assert ap(truth(annotation(1, [A, B])), [prediction(frames)]) == pytest.approx(expected)


def test_annotation_absent_in_a_frame_adds_the_prediction_to_the_union():
    assert ap(truth(annotation(1, [A, NONE])), [prediction([A, A])], 'AP50') == pytest.approx(1)
    assert ap(truth(annotation(1, [A, NONE])), [prediction([A, A])], 'AP75') == 0


def test_wrong_category_or_video_does_not_match():
    ground_truth = truth(annotation(1, [A, B]), videos=(1, 2), categories=(1, 2))
    assert ap(ground_truth, [prediction([A, B], category=2)]) == 0
    assert ap(ground_truth, [prediction([A, B], video=2)]) == 0


def test_no_prediction():
    assert ap(truth(annotation(1, [A, B])), []) == 0


@pytest.mark.parametrize(('wrong_score', 'expected'), [(.5, 1), (.95, .5)], ids=['after', 'before'])
def test_false_positive_counts_if_it_comes_first(wrong_score, expected):
    assert ap(truth(annotation(1, [A, B])),
              [prediction([A, B]), prediction([C, C], wrong_score)]) == pytest.approx(expected)


def test_equal_scores_keep_the_order_of_the_file():
    good, bad = prediction([A, B]), prediction([C, C])
    assert ap(truth(annotation(1, [A, B])), [good, bad]) == pytest.approx(1)
    assert ap(truth(annotation(1, [A, B])), [bad, good]) == pytest.approx(.5)


def test_second_prediction_of_an_object_is_false():
    ground_truth = truth(annotation(1, [A, B]), annotation(2, [C, C]))
    predictions = [prediction([A, B]), prediction([A, B], .8), prediction([C, C], .7)]
    # precision 1 up to recall .5 (51 points), then 2/3 (50 points)
    assert ap(ground_truth, predictions) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_crowd_is_ignored_and_takes_many():
    ground_truth = truth(annotation(1, [A, B]), annotation(2, [C, C]) | dict(iscrowd=1))
    predictions = [prediction([C, C], .99), prediction([C, C], .98), prediction([A, B])]
    assert ap(ground_truth, predictions) == pytest.approx(1)
    ground_truth['annotations'][1]['iscrowd'] = 0
    assert ap(ground_truth, predictions) < 1


def test_an_annotation_with_id_0_counts_like_others():
    """The official matching uses id 0 for 'not matched'."""
    assert ap(truth(annotation(0, [A, B])), [prediction([A, B]), prediction([A, B], .5)]) == pytest.approx(1)


def test_area_ranges_use_the_mean_of_frames_with_the_object():
    big = square(0, 0, 140)  # 19600: medium
    ground_truth = truth(annotation(1, [big, NONE]), annotation(2, [C, C]))
    statistics = evaluate_vis(ground_truth, [prediction([big, NONE])]).statistics
    assert (statistics['APm'], statistics['APs'], statistics['APl']) == pytest.approx((1, 0, -1))
    # the file's own areas decide for annotations
    ground_truth['annotations'][0]['areas'] = [70000, None]
    assert evaluate_vis(ground_truth, [prediction([big, NONE])]).statistics['APl'] == pytest.approx(1)


def test_limits_of_predictions_per_video():
    frames = [[square(20 * i, 100), NONE] for i in range(4)]
    ground_truth = truth(*(annotation(i, f) for i, f in enumerate(frames)))
    statistics = evaluate_vis(ground_truth, [prediction(f, .9 - .1 * i) for i, f in enumerate(frames)]).statistics
    assert (statistics['AR1'], statistics['AR10']) == (.25, 1)


def test_occlusion_strings_and_numbers():
    """The worse half of the frames decides: (.75 + .75) / 2 is heavy, .25 lies in two ranges."""
    heavy = annotation(1, [A, A, A, NONE], occlusion=['severe_occlusion', 'severe_occlusion', 'no_occlusion', None])
    slight = annotation(2, [B, B, B, B], occlusion=[.25, .25, 0, 0])
    statistics = evaluate_vis(truth(heavy, slight, length=4), [prediction([A, A, A, NONE])]).statistics
    assert list(statistics) == ['AP', 'AP50', 'AP75', 'APs', 'APm', 'APl', 'APso', 'APmo', 'APho',
                                'AR1', 'AR10', 'AR100', 'ARs', 'ARm', 'ARl', 'ARso', 'ARmo', 'ARho']
    assert (statistics['ARho'], statistics['ARmo'], statistics['ARso']) == (1, 0, 0)


def test_box_metric():
    """Boxes 10 wide, one shifted by 5: IoU 1/3 a frame; two frames of which one agrees: (100 + 50) / (100 + 150)."""
    boxes = [[0, 0, 10, 10], [50, 50, 10, 10]]
    ground_truth = truth(annotation(1, [A, B], bboxes=boxes))
    shifted = [[0, 0, 10, 10], [55, 50, 10, 10]]
    assert ap(ground_truth, [prediction([A, B], bboxes=shifted)], metric='bbox') == pytest.approx(.3)
    boxes_only = dict(video_id=1, category_id=1, score=1., bboxes=boxes)
    assert ap(ground_truth, [boxes_only], metric='bbox') == pytest.approx(1)
    ground_truth['annotations'][0]['bboxes'] = [[0, 0, 20, 20], [60, 0, 20, 20]]
    assert ap(ground_truth, [prediction([A, B])], metric='bbox') == pytest.approx(1)  # the masks' own boxes


def test_mask_iou_equals_pixel_counting():
    rng = np.random.default_rng(0)
    masks = (rng.random((2, 3, 5, 30, 40)) < rng.random((2, 3, 5, 1, 1))).astype(np.uint8)
    masks[0, 0, 2] = masks[1, 1, 3] = masks[0, 2] = 0
    rles = [[[encode_masks(mask[None])[0] for mask in track] for track in side] for side in masks]
    rles[0][0][2] = None
    areas = masks.sum((-2, -1)).astype(np.int64)
    found = video_mask_iou(rles[0], rles[1], areas[0], areas[1])
    both = (masks[0][:, None] & masks[1][None]).sum((2, 3, 4))
    either = (masks[0][:, None] | masks[1][None]).sum((2, 3, 4))
    np.testing.assert_array_equal(found, both / either)


def test_iou_of_nothing_is_0():
    nothing = np.zeros((1, 2), np.int64)
    assert video_mask_iou([[None, None]], [[None, None]], nothing, nothing) == 0
    assert video_box_iou(np.zeros((1, 2, 4)), np.zeros((1, 2, 4))) == 0


def test_matching_prefers_annotations_that_count_and_the_last_of_equals():
    iou = np.array([[.9, .6, .6]])
    matched, ignored = match_tracks(iou, np.array([[True, False, False]]), np.zeros(3, bool), np.zeros((1, 1), bool))
    np.testing.assert_array_equal(matched[0, :, 0], [True] * 9 + [False])
    np.testing.assert_array_equal(ignored[0, :, 0], [False] * 3 + [True] * 6 + [False])
    # the first takes the last of two equal annotations, which leaves the second only the other
    nothing = np.zeros((1, 2), bool)
    matched, _ = match_tracks(np.array([[.6, .6], [0, .6]]), nothing, nothing[0], nothing)
    np.testing.assert_array_equal(matched[0, 0], [True, False])


def test_unmatched_and_out_of_range_is_ignored():
    nothing = np.zeros((1, 0), bool)
    matched, ignored = match_tracks(np.zeros((2, 0)), nothing, nothing[0], np.array([[True, False]]))
    assert not matched.any()
    np.testing.assert_array_equal(ignored[0, 0], [True, False])


def test_precision_is_made_monotonic():
    matched = np.array([[True, False, True]])
    precision, recall = precision_recall(np.array([.9, .8, .7]), matched, np.zeros_like(matched), 2)
    np.testing.assert_allclose(precision[0, [0, 50, 51, 100]], [1, 1, 2 / 3, 2 / 3])
    assert recall[0] == 1


@pytest.mark.parametrize('name', ['vis_eval_21', 'vis_eval_22'])
def test_official_numbers(name):
    data = json.loads((GOLDEN / f'{name}.json').read_text())
    result = evaluate_vis(data['ground_truth'], data['predictions'])
    np.testing.assert_allclose(list(result.statistics.values()), data['ovis'], rtol=0, atol=1e-9)
    np.testing.assert_allclose([result.per_category[int(key)] for key in data['ytvis_per_category_ap']],
                               list(data['ytvis_per_category_ap'].values()), rtol=0, atol=1e-9)
    for entry in data['ground_truth']['annotations']:
        del entry['occlusion']
    result = evaluate_vis(data['ground_truth'], data['predictions'])
    np.testing.assert_allclose(list(result.statistics.values()), data['ytvis'], rtol=0, atol=1e-9)
