"""Training clips of any length: consecutive frames of videos, still images of COCO; both in equal shares."""
from collections import Counter

import numpy as np
import pytest

from mmdet.datasets import SeededIndex, WeightedConcatDataset, YVISDataset
from mmdet.datasets.youtube_vis import clip_frames
from mmdet.errors import UserError


def toy(root, **kwargs) -> YVISDataset:
    return YVISDataset('annotations/instances_train.json', str(root), dict(img_path='train_images'), **kwargs)


@pytest.mark.parametrize('length, starts', [(8, {0, 1, 2, 3}), (5, {0})], ids=['longer', 'as long'])
def test_consecutive_frames_from_any_start(length, starts):
    clips = [clip_frames(length, 5, np.random.default_rng(seed)) for seed in range(60)]
    assert {clip[0] for clip in clips} == starts
    assert all(clip == list(range(clip[0], clip[0] + 5)) for clip in clips)


def test_a_short_video_repeats_frames_at_the_end():
    clips = [clip_frames(3, 5, np.random.default_rng(seed)) for seed in range(30)]
    assert all(clip[:3] == [0, 1, 2] and len(clip) == 5 for clip in clips)
    assert {frame for clip in clips for frame in clip[3:]} == {0, 1, 2}


@pytest.mark.parametrize('length, interval, steps', [
    (30, (1, 3), {1, 2, 3}), (9, (1, 3), {1, 2}), (9, (3, 4), {2}), (5, (2, 2), {1}), (30, (2, 2), {2})],
    ids=['any', 'as far as it fits', 'the largest that fits', 'no room', 'one'])
def test_steps_between_the_frames_of_a_clip(length, interval, steps):
    clips = [clip_frames(length, 5, np.random.default_rng(seed), interval) for seed in range(60)]
    assert {step for clip in clips for step in np.diff(clip)} == steps
    assert all(len(clip) == 5 and len(set(np.diff(clip))) == 1 and clip[0] >= 0 and clip[-1] < length for clip in clips)
    longest = max(steps)
    last = {clip[-1] for clip in clips if clip[1] - clip[0] == longest}
    assert max(last) > length - 1 - max(longest, 4)  # starts reach the end of the video


def test_clips_in_reverse_order(toy_set):
    def orders(probability):
        dataset = toy(toy_set, train_clip_len=4, clip_interval=(1, 2), reverse_prob=probability)
        items = [dataset[SeededIndex(0, (seed,))]['frames'] for seed in range(40)]
        return [int(np.sign(frames[1]['frame_id'] - frames[0]['frame_id'])) for frames in items]

    assert set(orders(0)) == {1} and set(orders(1)) == {-1}
    assert 10 < orders(.5).count(-1) < 30


def test_defaults_draw_the_same_clips_as_before(toy_set):
    """A generator that draws the start only gives the same frames."""
    dataset = toy(toy_set, train_clip_len=5)
    for seed in range(10):
        frames = dataset[SeededIndex(2, (seed,))]['frames']
        start = int(np.random.default_rng((seed,)).integers(8 - 5 + 1))
        assert [frame['frame_id'] for frame in frames] == list(range(start, start + 5))


@pytest.mark.parametrize('options, words', [
    (dict(ref_range=(3, 1)), 'ref_range .* lower first'), (dict(ref_range=-1), 'ref_range'),
    (dict(ref_range=(1.5, 3)), 'ref_range counts frames'), (dict(ref_range=(1,)), 'ref_range must be two'),
    (dict(clip_interval=(0, 1), train_clip_len=3), 'clip_interval'), (dict(reverse_prob=.5), 'set train_clip_len'),
    (dict(clip_interval=(1, 2)), 'set train_clip_len'), (dict(reverse_prob=2, train_clip_len=3), 'reverse_prob')])
def test_wrong_intervals(toy_set, options, words):
    with pytest.raises(UserError, match=words):
        toy(toy_set, **options)


def test_an_item_is_a_video(toy_set):
    dataset = toy(toy_set, train_clip_len=5)
    assert len(dataset) == 3
    item = dataset[SeededIndex(1, (0, 0, 0))]
    ids = [frame['frame_id'] for frame in item['frames']]
    assert ids == list(range(ids[0], ids[0] + 5))
    again = dataset[SeededIndex(1, (0, 0, 0))]
    assert [frame['frame_id'] for frame in again['frames']] == ids
    assert len({dataset[SeededIndex(1, (0, 0, place))]['frames'][0]['frame_id'] for place in range(30)}) == 4


def test_an_object_keeps_its_label_where_the_last_frame_does_not_show_it(edited_set):
    def hide(data):
        for annotation in data['annotations']:
            for key in ('segmentations', 'bboxes', 'areas'):
                annotation[key][-1] = None
    dataset = toy(edited_set(hide), train_clip_len=8)
    frames = dataset[0]['frames']
    assert len(frames[-1]['objects'].labels) == 0
    assert max(frames[0]['objects'].labels) < 3


def test_equal_shares_whatever_the_sizes(toy_set):
    small = toy(toy_set, train_clip_len=5)  # 3 items
    large = toy(toy_set)  # one a frame
    assert len(large) > 20
    joint = WeightedConcatDataset([small, large], shares=[1, 1])
    assert len(joint) == 6
    joint = WeightedConcatDataset([large, small], shares=[1, 3])
    owners = Counter(int(joint._choices(index)[0]) for index in range(len(joint)))
    assert owners == {0: len(large), 1: 3 * len(large)}


def test_weights_and_shares_exclude_each_other(toy_set):
    with pytest.raises(UserError, match='not both'):
        WeightedConcatDataset([toy(toy_set)], weights=[1], shares=[1])
    with pytest.raises(UserError, match='one share above 0'):
        WeightedConcatDataset([toy(toy_set)], shares=[0])
    with pytest.raises(UserError, match='train_clip_len'):
        toy(toy_set, train_clip_len=0)
