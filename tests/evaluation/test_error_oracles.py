"""What mending one kind of error gains: closed forms for each oracle, then properties of random results."""
from collections import Counter

import numpy as np
import pytest
from error_definitions import corrected, videos_of
from squares import NONE, annotation, prediction, square, truth

from mmdet.evaluation.error_analysis import (
    ORACLES,
    AveragePrecision,
    Mend,
    analyse_errors,
    kinds_of_tracks,
    mend,
    outcome,
    relate_videos,
    resamples,
)
from mmdet.evaluation.functional import evaluate_vis, read_ground_truth, read_predictions, video_mask_iou
from mmdet.structures.masks import encode_masks

A, B, C = square(0), square(60), square(120)
SHIFTED = square(4)  # overlaps A by 320 of 480 pixels
TWO_THIRDS = .4  # AP of one track whose IoU is 2/3: thresholds .50, .55, .60, .65
HALF = 51 / 101  # AP of perfect precision up to recall 1/2


def switching(first, frames, second, more):
    return [first] * frames + [second] * more


# annotations, predictions, AP, and AP of the oracles that gain something
CASES = {
    'a wrong class': (
        [annotation(1, [A] * 3)], [prediction([A] * 3, category=2)], 0, {'class': 1}),
    'one object under two classes': (
        [annotation(1, [A] * 3), annotation(2, [B] * 3, category=2)],
        [prediction([A] * 3, .8), prediction([A] * 3, .9, category=2), prediction([B] * 3, .7, category=2)],
        .75, {'class': 1}),
    'a wrong class that finds the object less well than another track': (
        [annotation(1, [A] * 3), annotation(2, [B] * 3, category=2)],
        [prediction([A] * 3, .8), prediction([SHIFTED] * 3, .9, category=2), prediction([B] * 3, .7, category=2)],
        .75, {'class': 1}),
    # right up to .65; from .70 on it stays false in the category that it had, and in no other
    'a wrong class on an inexact track': (
        [annotation(1, [A] * 3), annotation(2, [B] * 3), annotation(3, [C] * 3, category=2)],
        [prediction([SHIFTED] * 3, .9, category=2), prediction([B] * 3, .8), prediction([C] * 3, .7, category=2)],
        (HALF + .5) / 2, {'class': TWO_THIRDS + (1 - TWO_THIRDS) * (HALF + .5) / 2}),
    # the first of equal scores is ranked first, also where it stays false
    'a wrong class on an inexact track of the same score as a right one': (
        [annotation(1, [A] * 3), annotation(2, [C] * 3, category=2)],
        [prediction([SHIFTED] * 3, category=2), prediction([C] * 3, category=2)],
        .25, {'class': TWO_THIRDS + (1 - TWO_THIRDS) * .25}),
    'masks beside the object': (
        [annotation(1, [A] * 3)], [prediction([SHIFTED] * 3)], TWO_THIRDS, {'masks': 1}),
    'masks that overlap too little to match': (
        [annotation(1, [A] * 3)], [prediction([square(10)] * 3)], 0, {'masks': 1}),
    'frames without a mask in between': (
        [annotation(1, [A] * 12)], [prediction([A] * 4 + [NONE] * 4 + [A] * 4)], TWO_THIRDS, {'masks': 1}),
    'masks where the object is not': (
        [annotation(1, [A] * 4 + [NONE] * 2)], [prediction([A] * 6)], TWO_THIRDS, {'masks': 1}),
    'a duplicate': (
        [annotation(1, [A] * 3), annotation(2, [B] * 3)],
        [prediction([A] * 3, .9), prediction([A] * 3, .8), prediction([B] * 3, .7)],
        (51 + 50 * 2 / 3) / 101, {'duplicates': 1}),
    # from .70 on the duplicate is still one: its object has been found
    'an inexact duplicate': (
        [annotation(1, [A] * 3), annotation(2, [B] * 3)],
        [prediction([A] * 3, .9), prediction([SHIFTED] * 3, .8), prediction([B] * 3, .7)],
        (51 + 50 * 2 / 3) / 101, {'duplicates': 1}),
    'a missed object': (
        [annotation(1, [A] * 3), annotation(2, [B] * 3)], [prediction([A] * 3)], HALF, {'missed tracks': 1}),
    'a missed object and a false track: precision stays': (
        [annotation(1, [A] * 3), annotation(2, [B] * 3)], [prediction([C] * 3, .9), prediction([A] * 3, .5)],
        HALF / 2, {'missed tracks': .5, 'false tracks': HALF}),
    'a category whose objects are all missed': (
        [annotation(1, [A] * 3), annotation(2, [B] * 3, category=2)], [prediction([A] * 3)], .5, {'missed tracks': 1}),
    'a false track': (
        [annotation(1, [A] * 3)], [prediction([C] * 3, .9), prediction([A] * 3, .5)], .5, {'false tracks': 1}),
    # the second track has IoU 11/20 and counts at .50 and .55
    'one object over two tracks': (
        [annotation(1, [A] * 20)], [prediction([A] * 9 + [NONE] * 11, .9), prediction([NONE] * 9 + [A] * 11, .8)],
        None, {'one object over several tracks': 1, 'id switches': 1}),
    # gaps that another track fills are no fault of the masks
    'one object that changes its track and changes back': (
        [annotation(1, [A] * 12)],
        [prediction([A] * 4 + [NONE] * 4 + [A] * 4, .9), prediction([NONE] * 4 + [A] * 4 + [NONE] * 4, .8)],
        TWO_THIRDS, {'one object over several tracks': 1, 'id switches': 1}),
    'two objects in one track': (
        [annotation(1, switching(A, 6, NONE, 3)), annotation(2, switching(NONE, 6, B, 3))],
        [prediction(switching(A, 6, B, 3))], TWO_THIRDS * HALF,
        {'several objects in one track': 1, 'id switches': 1}),
    # IoU 5/11 as they are, 5/8 once cut
    'two tracks that swap their objects': (
        [annotation(1, [A] * 8), annotation(2, [B] * 8)],
        [prediction(switching(A, 5, B, 3)), prediction(switching(B, 5, A, 3), .8)], 0,
        {'several objects in one track': .3, 'id switches': 1}),
    'late birth and early death': (
        [annotation(1, [A] * 12)], [prediction([NONE] * 2 + [A] * 8 + [NONE] * 2)], TWO_THIRDS,
        {'late birth and early death': 1}),
}


def parsed(annotations, predictions, categories=(1, 2)):
    ground_truth = read_ground_truth(truth(*annotations, categories=categories,
                                           length=len(annotations[0]['segmentations'])))
    return ground_truth, read_predictions(predictions, ground_truth)


@pytest.mark.parametrize('case', CASES)
def test_each_oracle_mends_its_own_kind_of_error_only(case):
    annotations, predictions, value, mended = CASES[case]
    ground_truth, tracks = parsed(annotations, predictions)
    analysis = analyse_errors(ground_truth, tracks, count=2)
    if value is None:  # it depends on how 11/20 compares with threshold .55
        value = evaluate_vis(ground_truth, predictions).statistics['AP']
        assert 0 < value <= .1
    assert analysis.statistics['AP'].value == pytest.approx(value)
    assert {name: gain.mended for name, gain in analysis.gains.items()} == pytest.approx(
        {name: mended.get(name, value) for name in ORACLES})
    assert {name for name, gain in analysis.gains.items() if gain.gain.value > 1e-9} == set(mended)


def test_a_track_that_needs_two_mends_gains_by_neither():
    """Masks of IoU 1/3 under a wrong class: no single oracle makes it right, both together do."""
    ground_truth, tracks = parsed([annotation(1, [A] * 3)], [prediction([square(10)] * 3, category=2)])
    assert all(gain.gain.value == 0 for gain in analyse_errors(ground_truth, tracks, count=1).gains.values())
    assert mended_ap(relate_videos(ground_truth, tracks), {Mend.CLASS, Mend.MASKS}) == pytest.approx(1)


def test_kinds_of_tracks_are_a_partition():
    ground_truth, tracks = parsed(
        [annotation(1, [A] * 3), annotation(2, [B] * 3), annotation(3, [square(0, 100, 60)] * 3) | dict(iscrowd=1)],
        [prediction([A] * 3, .9), prediction([A] * 3, .8), prediction([B] * 3, .7, category=2),
         prediction([C] * 3, .6), prediction([square(70)] * 3, .5), prediction([square(0, 100, 59)] * 3, .4)])
    assert kinds_of_tracks(relate_videos(ground_truth, tracks)[0]) == dict(
        matched=1, duplicate=1, inexact=1, ignored=1, false=1, **{'class': 1})


def random_result(seed, videos=4, length=6):
    """Objects that walk on a grid of squares and tracks that follow them badly; no two objects touch."""
    rng = np.random.default_rng(seed)
    annotations, predictions = [], []
    for video in range(1, videos + 1):
        places = {}
        for row in range(3):
            x, y = int(rng.integers(0, 60)), 60 * row
            start, stop = sorted(rng.choice(length + 1, 2, replace=False))
            places[row] = [square(x + 3 * t, y) if start <= t < stop else NONE for t in range(length)]
            category = int(rng.integers(1, 4))
            annotations.append(annotation(len(annotations) + 1, places[row], category, video,
                                          ) | dict(iscrowd=int(rng.random() < .1)))
            for _ in range(int(rng.integers(0, 4))):
                frames = [square(x + 3 * t + int(rng.integers(0, 9)), y) if rng.random() < .8 else NONE
                          for t in range(length)]
                if rng.random() < .4 and row:
                    frames[length // 2:] = places[row - 1][length // 2:]
                predictions.append(prediction(frames, float(rng.random()), category if rng.random() < .7 else 1, video))
        predictions.append(prediction([square(150, 150)] * length, float(rng.random()), 2, video))
    content = truth(*annotations, videos=range(1, videos + 1), categories=(1, 2, 3), length=length)
    return content, predictions


def mended_ap(videos, mends):
    originals = [outcome(video) for video in videos]
    average_precision = AveragePrecision(resamples(len(videos), 0), originals)
    return average_precision([outcome(video, mends) for video in videos])[0].mean()


@pytest.mark.parametrize('seed', range(6))
def test_random_results(seed):
    """Without mending it is AP of evaluate_vis; no oracle loses, everything mended is 1."""
    content, predictions = random_result(seed)
    ground_truth = read_ground_truth(content)
    videos = relate_videos(ground_truth, read_predictions(predictions, ground_truth))
    value = mended_ap(videos, ())
    assert value == pytest.approx(evaluate_vis(content, predictions).statistics['AP'], abs=1e-12)
    for name, mends in ORACLES.items():
        assert mended_ap(videos, mends) >= value - 1e-12, name
    assert mended_ap(videos, set(Mend)) == pytest.approx(1)


def encoded(mask):
    rle = encode_masks(mask[None].astype(np.uint8))[0]
    return dict(size=rle['size'], counts=rle['counts'].decode()) if mask.any() else NONE


def crowded_result(seed, length=4):
    """Rectangles that overlap, some of them crowds; tracks jump between them, merge two, and have equal scores."""
    rng = np.random.default_rng(seed)
    annotations, predictions = [], []
    for video in (1, 2):
        objects = np.zeros((3, length, 24, 30), bool)
        for frames in objects:
            (y, x), (height, width) = rng.integers(0, (14, 18)), rng.integers(5, 12, 2)
            frames[rng.random(length) < .8, y:y + height, x:x + width] = True
            annotations.append(annotation(len(annotations) + 1, [encoded(mask) for mask in frames],
                                          int(rng.integers(1, 3)), video) | dict(iscrowd=int(rng.random() < .1)))
        for _ in range(5):
            on = np.where(rng.random(length) < .2, rng.integers(0, 3, length), rng.integers(0, 3))
            also = np.where(rng.random(length) < .1, rng.integers(0, 3, length), on)
            frames = objects[on, range(length)] | objects[also, range(length)]
            frames = [np.roll(mask, rng.integers(-1, 2, 2), (0, 1)) & (rng.random() < .8) for mask in frames]
            predictions.append(prediction([encoded(mask) for mask in frames], float(rng.integers(1, 4)) / 4,
                                          int(rng.integers(1, 3)), video))
    videos = [dict(id=key, height=24, width=30, length=length) for key in (1, 2)]
    return truth(*annotations, categories=(1, 2)) | dict(videos=videos), predictions


@pytest.mark.parametrize('seed', range(12))
def test_random_results_of_overlapping_objects(seed):
    """Only cutting tracks may lose, because it takes away pixels that two objects share."""
    content, predictions = crowded_result(seed)
    ground_truth = read_ground_truth(content)
    videos = relate_videos(ground_truth, read_predictions(predictions, ground_truth))
    value = mended_ap(videos, ())
    assert value == pytest.approx(evaluate_vis(content, predictions).statistics['AP'], abs=1e-12)
    for name, mends in ORACLES.items():
        assert Mend.CUT in mends or mended_ap(videos, mends) >= value - 1e-12, name
    assert mended_ap(videos, set(Mend)) == pytest.approx(1)


PLAIN = {Mend.CLASS: 'class', Mend.MASKS: 'masks', Mend.DUPLICATES: 'duplicates', Mend.MISSED: 'missed',
         Mend.FALSE: 'false', Mend.JOIN: 'join', Mend.CUT: 'cut', Mend.EXTENT: 'extent'}


@pytest.mark.parametrize('seed', range(12, 32))
def test_numbers_are_those_of_the_definitions_in_plain_loops(seed):
    content, predictions = crowded_result(seed)
    ground_truth = read_ground_truth(content)
    tracks = read_predictions(predictions, ground_truth)
    analysis, videos = analyse_errors(ground_truth, tracks, count=1), videos_of(ground_truth, tracks)
    kinds = Counter(video.kind(p) for video in videos for p in range(len(video.tracks)))
    assert analysis.kinds == dict.fromkeys(analysis.kinds, 0) | kinds
    assert corrected(videos, set()) == (pytest.approx(analysis.statistics['AP'].value), 0)
    for name, mends in ORACLES.items():
        gain = analysis.gains[name]
        assert corrected(videos, {PLAIN[kind] for kind in mends}) == (pytest.approx(gain.mended), gain.changed), name


@pytest.mark.parametrize('mends', [ORACLES['masks'], ORACLES['id switches'], ORACLES['late birth and early death'],
                                   frozenset(Mend)], ids=['masks', 'id switches', 'extent', 'all'])
def test_overlaps_of_mended_tracks_are_those_of_their_masks(mends):
    content, predictions = random_result(7, videos=2)
    ground_truth = read_ground_truth(content)
    tracks = read_predictions(predictions, ground_truth)
    for video, key in zip(relate_videos(ground_truth, tracks), (1, 2)):
        found = sorted((track for track in tracks if track.video_id == key), key=lambda track: -track.score)
        objects = [track for track in ground_truth.tracks if track.video_id == key]
        masks = [track.rles for track in (*found, *objects)] + [[NONE] * 6]
        mended = mend(video, mends)
        rles = [[masks[source][frame] for frame, source in enumerate(sources)] for sources in mended.sources]
        areas = np.array([video.areas[sources, range(6)] for sources in mended.sources])
        assert len(rles) >= len(found) and (mended.origin[:len(found)] == range(len(found))).all()
        np.testing.assert_allclose(mended.iou, video_mask_iou(
            rles, [track.rles for track in objects], areas, np.stack([track.mask_areas for track in objects])))


def test_removals_equal_files_without_the_entries():
    """False tracks and missed objects: AP is that of files which lack them."""
    content, predictions = random_result(3)
    ground_truth = read_ground_truth(content)
    tracks = read_predictions(predictions, ground_truth)
    videos = relate_videos(ground_truth, tracks)
    false = {(key, score) for key, video in enumerate(videos, 1)
             for score in video.scores[video.target < 0].tolist()}
    kept = [entry for entry in predictions if (entry['video_id'], entry['score']) not in false]
    assert 0 < len(kept) < len(predictions)
    assert mended_ap(videos, {Mend.FALSE}) == pytest.approx(evaluate_vis(content, kept).statistics['AP'])
    missed = [flag for video in videos for flag in video.missed]
    left = [entry for entry, flag in zip(content['annotations'], missed) if not flag]
    assert 0 < len(left) < len(missed)
    assert {entry['category_id'] for entry in left} == {entry['category_id'] for entry in content['annotations']}
    assert mended_ap(videos, {Mend.MISSED}) == pytest.approx(
        evaluate_vis(content | dict(annotations=left), predictions).statistics['AP'])


def test_a_perfect_result_has_no_error_of_any_kind():
    content, _ = random_result(4)
    objects = [entry for entry in content['annotations'] if not entry['iscrowd']]
    ground_truth = read_ground_truth(content)
    tracks = read_predictions([prediction(entry['segmentations'], .9 - place / 100, entry['category_id'],
                                          entry['video_id']) for place, entry in enumerate(objects)], ground_truth)
    analysis = analyse_errors(ground_truth, tracks, count=20)
    assert analysis.statistics['AP'].value == pytest.approx(1)
    assert analysis.kinds['matched'] == len(objects) == sum(analysis.kinds.values())
    assert all(gain.changed == 0 and gain.gain.value == 0 for gain in analysis.gains.values())


def test_tracks_whose_masks_stay_the_same_are_not_counted_as_changed():
    """Of three tracks, the masks of one are exact, of one shifted in one frame, of one too many in one frame."""
    ground_truth, tracks = parsed(
        [annotation(1, [A] * 3), annotation(2, [B] * 3), annotation(3, [C, C, NONE])],
        [prediction([A] * 3, .9), prediction([B, B, square(62)], .8), prediction([C] * 3, .7)])
    gains = analyse_errors(ground_truth, tracks, count=1).gains
    assert {name: gain.changed for name, gain in gains.items() if gain.changed} == dict(masks=2)


def test_videos_without_tracks_or_objects():
    content = truth(annotation(1, [A, A]), videos=(1, 2, 3))
    ground_truth = read_ground_truth(content)
    tracks = read_predictions([prediction([A, A], video=3)], ground_truth)
    analysis = analyse_errors(ground_truth, tracks, count=5)
    assert analysis.statistics['AP'].value == 0
    assert {name: gain.mended for name, gain in analysis.gains.items() if gain.mended} == {'missed tracks': 1}
    assert analyse_errors(ground_truth, [], count=5).gains['missed tracks'].mended == 1
