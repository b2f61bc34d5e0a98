"""Clips of still images that move along a smooth path of affine maps."""
import cv2
import numpy as np
import pytest

from mmdet.datasets.transforms import AffineMotionClip
from mmdet.datasets.transforms.motion import affine_map, smooth_path
from mmdet.errors import UserError
from tests.datasets.transforms.clips import check_frame, equal_frames, rectangle_clip

STILL = dict(angle=0, translation=(0, 0), scale=(1, 1), shear=0)
OBJECTS = ((20, 20, 14, 12), (45, 30, 20, 10))


def test_no_motion_changes_nothing():
    for options in (STILL, dict(prob=0)):
        frames = AffineMotionClip(**options)(rectangle_clip(*OBJECTS))['frames']
        assert all(map(equal_frames, frames, rectangle_clip(*OBJECTS)['frames']))


@pytest.mark.parametrize('steps', [1, 2, 3, 9])
def test_paths_are_smooth_and_within_their_limits(steps):
    """The second differences of a quadratic curve at even times are constant."""
    low, high = np.array([-1., 0, 2]), np.array([1., 0, 3])
    for seed in range(20):
        path = smooth_path(low, high, steps, np.random.default_rng(seed))
        assert path.shape == (steps, 3) and (path >= low).all() and (path <= high).all()
        if steps > 2:
            second = np.diff(path, n=2, axis=0)
            np.testing.assert_allclose(second, np.broadcast_to(second[0], second.shape), atol=1e-12)


def test_a_quarter_turn_and_opencvs_rotation():
    image = np.arange(25, dtype=np.uint8).reshape(5, 5)
    turned = cv2.warpAffine(image, affine_map(np.array([np.pi / 2, 0, 0, 0, 0]), 5, 5), (5, 5), flags=cv2.INTER_NEAREST)
    assert np.array_equal(turned, np.rot90(image))
    ours = affine_map(np.array([.3, 0, np.log(1.2), 0, 0]), 41, 61)
    np.testing.assert_allclose(ours, cv2.getRotationMatrix2D((30, 20), np.degrees(.3), 1.2), atol=1e-12)


def test_translation_and_shear_have_closed_forms():
    np.testing.assert_allclose(affine_map(np.array([0, 0, 0, .1, -.2]), 50, 80), [[1, 0, 8], [0, 1, -10]])
    sheared = affine_map(np.array([0, np.pi / 4, 0, 0, 0]), 3, 3)
    np.testing.assert_allclose(sheared, [[1, 1, -1], [0, 1, 0]], atol=1e-12)


@pytest.mark.parametrize('length', [1, 2, 7])
def test_image_and_objects_move_together(length):
    for seed in range(10):
        frames = AffineMotionClip()(rectangle_clip(*OBJECTS, frames=length, seed=seed))['frames']
        assert len(frames) == length
        for frame in frames:
            check_frame(frame)
            assert set(frame['gt_instances_id']) <= {10, 11}


def test_objects_move_evenly_and_differently_for_each_seed():
    ends = set()
    for seed in range(12):
        frames = AffineMotionClip(**STILL | dict(translation=(.2, .2)))(
            rectangle_clip((35, 25, 10, 10), frames=6, seed=seed))['frames']
        places = np.array([frame['gt_bboxes'][0, :2] for frame in frames])
        assert np.abs(np.diff(places, n=3, axis=0)).max() <= 4  # 0, but for the rounding of each place to a pixel
        assert (np.abs(places - (35, 25)) <= (16, 12)).all()
        ends.add(tuple(places[-1] - places[0]))
    assert len(ends) > 8


def test_objects_that_leave_the_image_are_removed():
    counts = set()
    for seed in range(20):
        frames = AffineMotionClip(**STILL | dict(translation=(.9, .9)))(
            rectangle_clip((2, 2, 10, 10), frames=3, seed=seed))['frames']
        counts |= {len(frame['gt_labels']) for frame in frames}
        assert all(frame['gt_masks'].sum() >= 16 for frame in frames if len(frame['gt_labels']))
    assert counts == {0, 1}


@pytest.mark.parametrize('wrong, words', [
    (dict(angle=181), 'angle'), (dict(shear=90), 'shear'), (dict(scale=(2, 1)), 'scale'),
    (dict(translation=(.1,)), 'translation must be 2 numbers'), (dict(translation=(2, 2)), 'translation'),
    (dict(translation=.1), 'translation'), (dict(fill=0), 'fill'),
    (dict(min_area=0), 'min_area'), (dict(prob=2), 'prob')])
def test_wrong_arguments(wrong, words):
    with pytest.raises(UserError, match=f'AffineMotionClip.{words}'):
        AffineMotionClip(**wrong)
