"""Large-scale jitter: a fixed output size, one crop for all frames, objects cut with the image."""
import numpy as np
import pytest

from mmdet.datasets.transforms import RandomScaleCropClip
from mmdet.errors import UserError
from tests.datasets.transforms.clips import check_frame, equal_frames, rectangle_clip

OBJECTS = ((10, 8, 24, 16), (50, 30, 20, 22))


def test_scale_one_at_the_size_of_the_clip_changes_nothing():
    for size in ((80, 60), None):
        frames = RandomScaleCropClip(size, scale=(1, 1))(rectangle_clip(*OBJECTS))['frames']
        assert all(map(equal_frames, frames, rectangle_clip(*OBJECTS)['frames']))


def test_without_a_size_clips_keep_theirs():
    for size in ((60, 80), (81, 35)):
        frame = RandomScaleCropClip()(rectangle_clip((4, 4, 20, 20), size=size))['frames'][0]
        assert frame['img'].shape[:2] == frame['img_shape'] == size


@pytest.mark.parametrize('size', [(60, 80), (80, 60), (40, 200)], ids=['wide', 'high', 'very wide'])
def test_every_scale_gives_the_same_size_and_matching_objects(size):
    long, short = (64, 48) if size[1] >= size[0] else (48, 64)
    transform, factors = RandomScaleCropClip((64, 48), min_area=1, min_share=0, fill=(0, 0, 0)), []
    for seed in range(60):
        frames = transform(rectangle_clip((8, 8, 28, 30), (22, 20, 15, 18), size=size, seed=seed))['frames']
        assert equal_frames(*frames)
        assert frames[0]['img_shape'] == (short, long) == frames[0]['img'].shape[:2]
        assert set(frames[0]['gt_instances_id']) <= {10, 11}
        check_frame(frames[0])
        factors.append(frames[0]['scale_factor'] / min(64 / max(size), 48 / min(size)))
    assert min(factors) >= .3 and max(factors) <= 2 and np.ptp(factors) > 1.4


def test_a_doubled_square_is_cut_at_the_border():
    """A square of 20 pixels becomes one of 40, of which the result shows what lies within it."""
    for seed in range(20):
        frame = RandomScaleCropClip((60, 60), scale=(2, 2))(
            rectangle_clip((20, 20, 20, 20), size=(60, 60), seed=seed))['frames'][0]
        x1, y1, x2, y2 = frame['gt_bboxes'][0]
        for low, high in ((x1, x2), (y1, y2)):
            assert high - low + 1 == 40 or low == 0 or high == 59
        assert frame['gt_masks'].sum() == (x2 - x1 + 1) * (y2 - y1 + 1)


def test_a_small_image_is_at_a_random_place_within_the_filled_result():
    places = set()
    for seed in range(20):
        frame = RandomScaleCropClip((80, 60), scale=(.5, .5), fill=(1, 2, 3))(
            rectangle_clip((0, 0, 80, 60), seed=seed, colour=200))['frames'][0]
        outside = (frame['img'] == (1, 2, 3)).all(axis=2)
        assert abs((~outside).sum() - 40 * 30) < 2 * 142  # the interpolated outline
        x1, y1, x2, y2 = frame['gt_bboxes'][0]
        assert (x2 - x1 + 1, y2 - y1 + 1) == (40, 30)
        places.add((x1, y1))
    assert len(places) > 12


def test_an_object_always_remains():
    transform = RandomScaleCropClip((80, 60), scale=(1, 3))
    for seed in range(60):
        frame = transform(rectangle_clip((3, 50, 8, 8), seed=seed))['frames'][0]
        assert frame['gt_instances_id'].tolist() == [10]
        assert frame['gt_masks'].sum() >= 64 / 4 - 8


def test_objects_with_too_little_left_are_removed():
    """Each object is whole or, with the largest share required, not there."""
    clips = [RandomScaleCropClip((80, 60), scale=(2, 2), min_share=1)(rectangle_clip(*OBJECTS, seed=seed))['frames'][0]
             for seed in range(20)]
    areas = {int(area) for frame in clips for area in frame['gt_masks'].sum(axis=(1, 2))}
    assert areas == {4 * 24 * 16, 4 * 20 * 22}
    assert {len(frame['gt_labels']) for frame in clips} >= {0, 1}
    frame = RandomScaleCropClip((80, 60), scale=(.5, .5), min_area=100)(rectangle_clip(*OBJECTS))['frames'][0]
    assert frame['gt_labels'].tolist() == [1]  # of 96 and 110 pixels


def test_the_crop_drifts_at_constant_speed():
    for seed in range(10):
        frames = RandomScaleCropClip((80, 60), scale=(1, 1), drift=.2)(
            rectangle_clip((30, 25, 16, 10), frames=5, seed=seed))['frames']
        places = np.array([frame['gt_bboxes'][0, :2] for frame in frames])
        steps = np.diff(places, axis=0)
        assert np.ptp(steps, axis=0).max() <= 1  # rounded to pixels
        assert (np.abs(places[-1] - places[0]) <= (16 + 1, 12 + 1)).all()
        for frame in frames:
            check_frame(frame | {'img': np.where(frame['img'] == (104, 116, 124), 0, frame['img'])})
    assert np.abs(places[-1] - places[0]).max() > 1


def test_without_jitter_the_clip_is_fitted_at_the_upper_left():
    frame = RandomScaleCropClip((160, 160), prob=0, fill=(9, 9, 9))(rectangle_clip(*OBJECTS))['frames'][0]
    assert frame['scale_factor'] == 2 and frame['img'].shape == (160, 160, 3)
    assert (frame['img'][121:] == 9).all() and not (frame['img'][:119] == 9).all()
    assert frame['gt_bboxes'].tolist() == [[20, 16, 67, 47], [100, 60, 139, 103]]


def test_the_same_seed_gives_the_same_clip():
    clips = [RandomScaleCropClip((80, 60), drift=.1)(rectangle_clip(*OBJECTS, seed=5))['frames'] for _ in range(2)]
    assert all(map(equal_frames, *clips))


def test_clips_without_annotations_or_objects():
    clip = rectangle_clip()
    assert RandomScaleCropClip((80, 60))(clip)['frames'][0]['gt_masks'].shape == (0, 60, 80)
    for frame in clip['frames']:
        for name in ('gt_masks', 'gt_bboxes', 'gt_labels', 'gt_instances_id'):
            del frame[name]
    assert RandomScaleCropClip((40, 30))(clip)['frames'][1]['img'].shape == (30, 40, 3)


@pytest.mark.parametrize('wrong, words', [
    (dict(size=(80, 0)), 'positive integers'), (dict(size=(32768, 9)), 'at most 32767'),
    (dict(scale=(2, 1)), 'scale .* lower first'),
    (dict(scale=2), 'scale must be two numbers'), (dict(scale=(0, 1)), 'scale must be a number from 0.01'),
    (dict(drift=-1), 'drift'), (dict(min_area=0), 'min_area must be an integer of at least 1'),
    (dict(min_share=1.5), 'min_share'), (dict(prob='1'), 'prob'), (dict(fill=(1, 2)), 'fill'),
    (dict(fill=(1, 2, 300)), 'fill')])
def test_wrong_arguments(wrong, words):
    with pytest.raises(UserError, match=words):
        RandomScaleCropClip(**{'size': (80, 60), **wrong})
