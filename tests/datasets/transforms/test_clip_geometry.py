"""Resizing and flipping in closed form, with equal parameters in all frames of a clip."""
import copy

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdet.datasets.transforms import AffineColourReference, RandomFlipClip, RandomResizeClip, ResizeClip
from mmdet.datasets.transforms.geometry import keep_ratio_factor, scaled_size
from mmdet.errors import UserError


def make_clip(height=36, width=64, frames=2, seed=0, objects=3) -> dict:
    rng = np.random.default_rng(seed)
    clip = {'frames': [], 'rng': rng}
    for _ in range(frames):
        corners = rng.uniform(0, 1, (objects, 2, 2)) * (width, height)
        clip['frames'].append({
            'img': rng.integers(0, 256, (height, width, 3), dtype=np.uint8), 'img_shape': (height, width),
            'ori_shape': (height, width), 'scale_factor': 1., 'flip': False,
            'gt_bboxes': np.concatenate([corners.min(1), corners.max(1)], axis=1).astype(np.float32),
            'gt_masks': rng.integers(0, 2, (objects, height, width), dtype=np.uint8)})
    return clip


@pytest.mark.parametrize('size, scale, factor, new_size', [
    ((360, 640), (960, 480), 480 / 360, (480, 853)),
    ((720, 1280), (960, 480), 480 / 720, (480, 853)),
    ((1280, 720), (960, 480), 480 / 720, (853, 480)),
    ((100, 900), (960, 480), 960 / 900, (107, 960)),
    ((360, 640), (480, 960), 480 / 360, (480, 853)),
    ((270, 480), (480, 270), 1, (270, 480)),
    ((1, 1), (960, 480), 480, (480, 480)),
    ((1, 8000), (960, 480), .12, (1, 960)),
], ids=['enlarged', 'reduced', 'high', 'long side binds', 'scale turned', 'identity', 'one pixel', 'line'])
def test_size_and_factor(size, scale, factor, new_size):
    found = keep_ratio_factor(*size, scale)
    assert found == pytest.approx(factor)
    assert scaled_size(*size, found) == new_size


def test_resizing_equals_opencv():
    clip = make_clip(36, 64)
    before = copy.deepcopy(clip['frames'])
    for old, new in zip(before, ResizeClip(scale=(48, 27))(clip)['frames']):
        assert new['img_shape'] == (27, 48) and new['ori_shape'] == (36, 64) and new['scale_factor'] == .75
        assert (new['img'] == cv2.resize(old['img'], (48, 27), interpolation=cv2.INTER_LINEAR)).all()
        assert np.allclose(new['gt_bboxes'], old['gt_bboxes'] * .75)
        for old_mask, new_mask in zip(old['gt_masks'], new['gt_masks'], strict=True):
            assert (new_mask == cv2.resize(old_mask, (48, 27), interpolation=cv2.INTER_NEAREST)).all()


def test_resize_to_the_same_size_changes_nothing():
    clip = make_clip(36, 64)
    before = copy.deepcopy(clip['frames'])
    for old, new in zip(before, ResizeClip(scale=(64, 36))(clip)['frames']):
        assert all(np.array_equal(old[key], new[key]) for key in old)


def test_factors_multiply():
    clip = ResizeClip(scale=(16, 9))(ResizeClip(scale=(32, 18))(make_clip(36, 64)))
    assert clip['frames'][0]['scale_factor'] == .25


def test_boxes_end_at_the_image():
    clip = make_clip(36, 64)
    clip['frames'][0]['gt_bboxes'] = np.array([[-4, -2, 70, 40]], np.float32)
    assert ResizeClip(scale=(128, 72))(clip)['frames'][0]['gt_bboxes'].tolist() == [[0, 0, 128, 72]]


def test_no_objects():
    clip = RandomFlipClip(1.)(ResizeClip(scale=(32, 18))(make_clip(objects=0)))
    assert clip['frames'][0]['gt_bboxes'].shape == (0, 4) and clip['frames'][0]['gt_masks'].shape == (0, 18, 32)


def test_without_annotations():
    clip = make_clip()
    for frame in clip['frames']:
        del frame['gt_bboxes'], frame['gt_masks']
    assert RandomFlipClip(1.)(ResizeClip(scale=(32, 18))(clip))['frames'][1]['img'].shape == (18, 32, 3)


@given(seed=st.integers(0, 2 ** 32))
def test_random_scale_lies_in_the_range_and_is_shared(seed):
    clip = RandomResizeClip(scales=[(64, 36), (96, 48)])(make_clip(90, 160, objects=0, seed=seed))
    one, two = clip['frames']
    assert one['img_shape'] == two['img_shape'] and one['scale_factor'] == two['scale_factor']
    height, width = one['img_shape']
    assert 64 / 160 <= one['scale_factor'] <= 48 / 90
    assert (height, width) == scaled_size(90, 160, one['scale_factor'])


def test_long_and_short_side_are_drawn_independently_and_uniformly():
    transform, longs, shorts = RandomResizeClip(scales=[(20, 10), (24, 14)]), [], []
    rng = np.random.default_rng(0)
    for _ in range(300):
        for shape, sides in (((1, 1000), longs), ((100, 100), shorts)):
            clip = make_clip(1, 1, frames=1, objects=0) | {'rng': rng}
            clip['frames'][0]['img'] = np.zeros((*shape, 3), np.uint8)
            sides.append(max(transform(clip)['frames'][0]['img_shape']))
    assert set(longs) == {20, 21, 22, 23, 24} and set(shorts) == {10, 11, 12, 13, 14}
    assert min(np.bincount(longs)[20:]) > 30 and min(np.bincount(shorts)[10:]) > 30


def test_sides_do_not_depend_on_each_other(monkeypatch):
    drawn = []
    monkeypatch.setattr('mmdet.datasets.transforms.geometry.resize_clip', lambda results, scale: drawn.append(scale))
    clip = {'rng': np.random.default_rng(0), 'frames': []}
    for _ in range(400):
        RandomResizeClip(scales=[(640, 360), (960, 480)]).transform(clip)
    long, short = np.array(drawn).T
    assert long.min() >= 640 and long.max() <= 960 and short.min() >= 360 and short.max() <= 480
    assert abs(np.corrcoef(long, short)[0, 1]) < .15


def test_a_scale_for_each_step_is_drawn_once_for_all_its_clips():
    resize = RandomResizeClip([(64, 36), (96, 48)], per_step=True)
    sizes = {}
    for step in range(12):
        clips = [make_clip(seed=seed) | {'step_rng': np.random.default_rng((7, step))} for seed in range(4)]
        sizes[step] = {resize.transform(clip)['frames'][0]['img_shape'] for clip in clips}
    assert all(len(found) == 1 for found in sizes.values()) and len(set.union(*sizes.values())) > 4


def test_clips_at_one_place_of_the_batches_of_all_processes_have_one_scale():
    resize = RandomResizeClip([(64, 36), (96, 48)])
    drawn = []
    for place in range(12):
        clips = [make_clip(seed=seed) | {'place_rng': np.random.default_rng((7, place))} for seed in range(3)]
        drawn.append({resize.transform(clip)['frames'][0]['img_shape'] for clip in clips})
    assert all(len(found) == 1 for found in drawn) and len(set.union(*drawn)) > 4


def test_one_scale_is_fixed():
    clip = RandomResizeClip(scales=[(32, 18)])(make_clip(36, 64))
    assert clip['frames'][0]['img_shape'] == (18, 32)


def test_flip_twice_is_the_identity():
    clip = make_clip()
    clip['frames'][0]['gt_bboxes'] = np.array([[0, 0, 63, 35], [3, 4, 10, 20]], np.float32)
    before = copy.deepcopy(clip['frames'])
    flip = RandomFlipClip(1.)
    for old, new in zip(before, flip(flip(clip))['frames']):
        assert all(np.allclose(old[key], new[key], atol=1e-5) for key in ('img', 'gt_masks'))
    assert (clip['frames'][0]['gt_bboxes'] == before[0]['gt_bboxes']).all() and clip['frames'][0]['flip'] is False


def test_flip_mirrors_pixels_boxes_and_masks_together():
    clip = make_clip(36, 64, objects=1)
    for frame in clip['frames']:
        frame['gt_masks'][:] = 0
        frame['gt_masks'][0, 5:9, 10:21] = 1
        frame['gt_bboxes'] = np.array([[10, 5, 20, 8]], np.float32)
    before = copy.deepcopy(clip['frames'])
    for old, new in zip(before, RandomFlipClip(1.)(clip)['frames']):
        assert new['flip'] is True
        assert (new['img'] == cv2.flip(old['img'], 1)).all()
        y, x = np.nonzero(new['gt_masks'][0])
        assert new['gt_bboxes'].tolist() == [[43, 5, 53, 8]] == [[x.min(), y.min(), x.max(), y.max()]]


def test_flipped_boxes_stay_inside():
    clip = make_clip(36, 64)
    clip['frames'][0]['gt_bboxes'] = np.array([[0, 0, 64, 36]], np.float32)  # clipped to the width, not width - 1
    assert RandomFlipClip(1.)(clip)['frames'][0]['gt_bboxes'].tolist() == [[0, 0, 63, 36]]


def test_flip_is_shared_and_fair():
    flips = []
    rng = np.random.default_rng(0)
    for _ in range(200):
        clip = RandomFlipClip(.5)(make_clip(4, 4, objects=0) | {'rng': rng})
        one, two = (frame['flip'] for frame in clip['frames'])
        assert one == two
        flips.append(one)
    assert 70 < sum(flips) < 130
    assert not RandomFlipClip(0.)(make_clip())['frames'][0]['flip']


@pytest.mark.parametrize('build', [lambda: ResizeClip(scale=(0, 4)), lambda: ResizeClip(scale=(4,)),
                                   lambda: ResizeClip(scale=(4., 4)), lambda: RandomResizeClip(scales=[]),
                                   lambda: RandomResizeClip(scales=[(4, 4)] * 3), lambda: RandomFlipClip(1.5),
                                   lambda: ResizeClip(scale=240), lambda: ResizeClip(scale='240'),
                                   lambda: RandomResizeClip(scales=240), lambda: RandomResizeClip(scales=(640, 360)),
                                   lambda: RandomFlipClip('0.5'), lambda: AffineColourReference(hue='0.1'),
                                   lambda: AffineColourReference(translation=.1)])
def test_impossible_arguments(build):
    with pytest.raises(UserError):
        build()
