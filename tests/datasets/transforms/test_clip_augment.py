"""Sizes of VidEoMT's authors and of transformers, random crops, rotated still images; one draw per clip."""
import numpy as np
import pytest
import torch

from mmdet.datasets.transforms import (
    RandomChoiceResizeClip,
    RandomResizeCropClip,
    ResizeClip,
    RotateStillClip,
)
from mmdet.datasets.transforms.geometry import keep_ratio_factor, scaled_size
from mmdet.errors import UserError
from mmdet.models.data_preprocessors import TrackDataPreprocessor
from mmdet.structures import DetDataSample
from tests.helpers.golden import clip_of, golden_npz


def still_clip(height: int, width: int, frames: int, seed: int = 0) -> dict:
    """Return a clip with the same noise in every frame and two objects, squares of 4 pixels in two corners."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    masks = np.zeros((2, height, width), np.uint8)
    masks[0, :4, :4] = masks[1, -4:, -4:] = 1
    boxes = np.array([[0, 0, 3, 3], [width - 4, height - 4, width - 1, height - 1]], np.float32)
    return {'rng': np.random.default_rng(seed), 'frames': [
        {'img': image, 'img_shape': (height, width), 'ori_shape': (height, width), 'scale_factor': 1.0, 'flip': False,
         'gt_bboxes': boxes, 'gt_masks': masks, 'gt_labels': np.array([2, 0]), 'gt_instances_id': np.array([7, 5])}
        for _ in range(frames)]}


def test_the_authors_sizes():
    for height, width, short, new_height, new_width in golden_npz('videomt_small_clip.npz')['native_sizes'].tolist():
        assert scaled_size(height, width, keep_ratio_factor(height, width, (1333, short))) == (new_height, new_width)


@pytest.mark.parametrize('kind, resize', [
    ('native_out', ResizeClip(scale=(1333, 33), backend='pillow')),
    ('pre_out', ResizeClip(scale=(64, 64), keep_ratio=False, backend='pillow')),
], ids=['authors', 'transformers'])
def test_published_preprocessing(kind, resize):
    golden = golden_npz('videomt_small_clip.npz')
    clip = {'frames': [{'img': image[:, :, ::-1], 'scale_factor': 1.0} for image in golden['pre_in']]}
    frames = resize(clip)['frames']
    data = TrackDataPreprocessor()({
        'inputs': [torch_images(frames)],
        'data_samples': [clip_of([DetDataSample(metainfo=dict(img_shape=frame['img_shape'])) for frame in frames])]})
    expected = golden[kind].reshape(2, 3, *golden[kind].shape[-2:])
    found = data['inputs'][0].numpy()
    if kind == 'native_out':
        assert frames[0]['img_shape'] == (33, 44)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-5)


def torch_images(frames: list[dict]) -> torch.Tensor:
    return torch.from_numpy(np.stack([frame['img'] for frame in frames])).permute(0, 3, 1, 2)


def test_resizing_without_the_ratio_scales_boxes_by_both_factors():
    frame, = ResizeClip(scale=(80, 20), keep_ratio=False)(still_clip(40, 40, 1))['frames']
    assert frame['img_shape'] == frame['img'].shape[:2] == frame['gt_masks'].shape[1:] == (20, 80)
    assert frame['gt_bboxes'][0].tolist() == [0, 0, 6, 1.5]
    assert frame['scale_factor'] == 1.0  # of 2 and 1/2


def test_one_of_the_scales_for_all_frames():
    shapes = set()
    for seed in range(20):
        frames = RandomChoiceResizeClip(scales=[(100, 20), (100, 30), (30, 25)])(still_clip(40, 50, 3, seed))['frames']
        assert len({frame['img_shape'] for frame in frames}) == 1
        shapes.add(frames[0]['img_shape'])
    assert shapes == {(20, 25), (30, 38), (24, 30)}


@pytest.mark.parametrize('size, crop, least, most', [
    ((60, 80), (24, 40), (24, 24), (40, 40)), ((20, 80), (24, 100), (20, 24), (20, 80))], ids=['inside', 'small image'])
def test_random_crops(size, crop, least, most):
    transform, sizes, cropped = RandomResizeCropClip(scales=[(max(size), min(size))], crop=crop, prob=0.5), [], 0
    for seed in range(60):
        clip = still_clip(*size, frames=2, seed=seed)
        image = clip['frames'][0]['img']
        first, second = transform(clip)['frames']
        assert (first['img'] == second['img']).all() and first['img_shape'] == first['img'].shape[:2]
        sizes.append(first['img_shape'])
        cropped += first['img'] is not image
        for mask, box, ident in zip(first['gt_masks'], first['gt_bboxes'], first['gt_instances_id']):
            rows, columns = np.nonzero(mask)
            assert box.tolist() == [columns.min(), rows.min(), columns.max(), rows.max()]
            assert ident in (7, 5)
    assert 15 < cropped < 45
    inside = [shape for shape in sizes if shape != size]
    assert (np.min(inside, axis=0) >= least).all() and (np.max(inside, axis=0) <= most).all()
    assert len(set(inside)) > 10


def test_an_object_outside_the_crop_is_removed():
    clip = RandomResizeCropClip(scales=[(80, 60)], crop=(8, 8), prob=1)(still_clip(60, 80, 1, seed=3))
    frame, = clip['frames']
    assert frame['gt_labels'].size == frame['gt_instances_id'].size == len(frame['gt_masks']) == 0


def test_a_still_image_is_rotated_in_one_direction():
    descending = 0
    for seed in range(12):
        clip = still_clip(41, 41, frames=5, seed=seed)
        for frame in clip['frames']:
            frame['gt_masks'] = np.zeros((1, 41, 41), np.uint8)
            frame['gt_masks'][0, 18:23, 30:35] = 1  # right of the centre: its height depends on the angle
            frame.update(gt_labels=np.array([1]), gt_instances_id=np.array([4]))
        frames = RotateStillClip(angle=15, center=(0.5, 0.5))(clip)['frames']
        height = [np.nonzero(frame['gt_masks'][0])[0].mean() for frame in frames]
        assert height in (sorted(height), sorted(height, reverse=True))
        assert max(height) - min(height) > 0.2
        assert max(abs(value - 20) for value in height) <= 12.5 * np.sin(np.radians(15)) + 1
        descending += height[0] > height[-1]
        assert all(frame['img'].shape == (41, 41, 3) for frame in frames)
    assert 2 <= descending <= 10


def test_no_angle_changes_nothing():
    clip = RotateStillClip(angle=0)(still_clip(40, 50, 2))
    for before, after in zip(still_clip(40, 50, 2)['frames'], clip['frames']):
        for name in ('img', 'gt_masks', 'gt_bboxes', 'gt_labels'):
            np.testing.assert_array_equal(after[name], before[name])


@pytest.mark.parametrize('build', [
    lambda: RandomChoiceResizeClip([]), lambda: RandomChoiceResizeClip([(10, 0)]),
    lambda: ResizeClip((10, 10), backend='magic'), lambda: RandomResizeCropClip([(10, 10)], crop=(5, 3)),
    lambda: RandomResizeCropClip([(10, 10)], crop=(3, 5), prob=2), lambda: RotateStillClip(angle=200),
    lambda: RotateStillClip(center=(0.6, 0.4))])
def test_wrong_arguments(build):
    with pytest.raises(UserError):
        build()


def test_frames_without_objects():
    clip = still_clip(40, 50, 2)
    for frame in clip['frames']:
        for name in ('gt_bboxes', 'gt_masks', 'gt_labels', 'gt_instances_id'):
            del frame[name]
    for transform in (RotateStillClip(), RandomResizeCropClip([(50, 40)], (8, 20), 1),
                      RandomChoiceResizeClip([(25, 20)])):
        clip = transform(clip)
    assert clip['frames'][0]['img'].shape[:2] == clip['frames'][0]['img_shape']
