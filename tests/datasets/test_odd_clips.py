"""Whole pipeline on odd clips: tiny, huge and thin frames, objects of one pixel or at the border."""
import json

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.dataset import pseudo_collate
from pycocotools import mask as mask_utils

from mmdet.datasets import SeededIndex, YVISDataset
from mmdet.datasets.transforms import (
    AffineColourReference,
    AffineMotionClip,
    PhotometricDistortClip,
    RandomFlipClip,
    RandomResizeCropClip,
    RandomScaleCropClip,
    ResizeClip,
    RotateStillClip,
)
from mmdet.datasets.transforms.objects import keep_objects
from mmdet.models.data_preprocessors import TrackDataPreprocessor
from tests.datasets.transforms.clips import check_frame, equal_frames, rectangle_clip

PIPELINE = [{'type': 'LoadTrackFrames'}, {'type': 'LoadTrackAnnotations'},
            {'type': 'RandomResizeClip', 'scales': [(64, 36), (96, 48)]}, {'type': 'RandomFlipClip'},
            {'type': 'PackTrackInputs'}]


def write_set(root, height: int, width: int, masks: list[np.ndarray], suffix: str = '.png') -> YVISDataset:
    (root / 'train_images').mkdir(parents=True, exist_ok=True)
    names = [f'{frame}{suffix}' for frame in range(2)]
    for name in names:
        cv2.imwrite(str(root / 'train_images' / name), np.full((height, width, 3), 7, np.uint8))
    rles = [mask_utils.encode(np.asfortranarray(mask)) for mask in masks]
    (root / 'train.json').write_text(json.dumps({
        'videos': [{'id': 1, 'height': height, 'width': width, 'file_names': names}],
        'categories': [{'id': 1, 'name': 'thing'}],
        'annotations': [{'id': number, 'video_id': 1, 'category_id': 1,
                         'segmentations': [{'size': rle['size'], 'counts': rle['counts'].decode()}] * 2}
                        for number, rle in enumerate(rles)]}))
    return YVISDataset('train.json', str(root), {'img_path': 'train_images'}, PIPELINE)


def check(dataset: YVISDataset, seed: int, objects: int) -> None:
    clips = [dataset[SeededIndex(item, (seed,))] for item in (0, 1)]
    result = TrackDataPreprocessor()(pseudo_collate(clips))
    height, width = result['inputs'].shape[-2:]
    assert height % 32 == width % 32 == 0 and torch.isfinite(result['inputs']).all()
    for sample in result['data_samples']:
        for frame in sample:
            h, w = frame.img_shape
            found = frame.gt_instances
            assert h >= 1 and w >= 1 and len(found) == objects
            assert found.masks.shape == (objects, height, width)
            assert not found.masks[:, h:].any() and not found.masks[:, :, w:].any()
            assert (found.bboxes >= 0).all() and (found.bboxes <= torch.tensor([w, h, w, h])).all()
            assert (found.bboxes[:, 2:] >= found.bboxes[:, :2]).all()


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 1000), data=st.data())
def test_any_size_and_any_object(tmp_path, height, width, seed, data):
    masks = []
    for _ in range(data.draw(st.integers(1, 3))):
        top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        masks.append(np.zeros((height, width), np.uint8))
        masks[-1][top:data.draw(st.integers(top + 1, height)), left:data.draw(st.integers(left + 1, width))] = 1
    check(write_set(tmp_path, height, width, masks), seed, len(masks))


@pytest.mark.parametrize('height, width', [(4320, 7680), (1, 8000), (8000, 1)])
def test_largest_frames(tmp_path, height, width):
    corner = np.zeros((height, width), np.uint8)
    corner[-1, -1] = 1
    check(write_set(tmp_path, height, width, [corner, np.ones_like(corner)], '.jpg'), 0, 2)


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), length=st.integers(1, 3), seed=st.integers(0, 1000),
       size=st.none() | st.tuples(st.integers(1, 60), st.integers(1, 60)), objects=st.integers(0, 3))
def test_augmentation_of_any_size(height, width, length, seed, size, objects):
    rng = np.random.default_rng(seed)
    corners = [np.sort(rng.integers(0, (width, height), (2, 2)), axis=0) for _ in range(objects)]
    clip = rectangle_clip(*[(*low.tolist(), *(high - low + 1).tolist()) for low, high in corners],
                          size=(height, width), frames=length, seed=seed)
    for frame in clip['frames']:
        keep_objects(frame, frame['gt_masks'].any(axis=(1, 2)))
    for transform in (RandomScaleCropClip(size, scale=(0.01, 5), drift=0.3, min_area=1), AffineMotionClip(min_area=1),
                      PhotometricDistortClip(channel_prob=0.5, frame_jitter=0.5), RandomFlipClip()):
        clip = transform(clip)
    sides = (height, width) if size is None else sorted(size, reverse=height > width)
    for frame in clip['frames']:
        check_frame(frame, bright=None)
        assert frame['img_shape'] == tuple(sides)


AUGMENTATIONS = [
    RandomFlipClip(1.0), PhotometricDistortClip(prob=1, channel_prob=1, frame_jitter=0.5),
    RandomScaleCropClip(drift=0.1), AffineMotionClip(), AffineColourReference(blur_prob=1), RotateStillClip(),
    ResizeClip((50, 30), backend='pillow'),
    RandomResizeCropClip([(80, 50)], (20, 40), 1.0)]


@settings(max_examples=60, deadline=None)
@given(order=st.permutations(range(len(AUGMENTATIONS))), count=st.integers(2, 5), length=st.integers(1, 3),
       seed=st.integers(0, 1000))
def test_augmentations_in_any_order(order, count, length, seed):
    clip = rectangle_clip((5, 5, 20, 15), (20, 12, 30, 20), (60, 40, 15, 15), frames=length, seed=seed)
    for step in order[:count]:
        clip = AUGMENTATIONS[step](clip)
    for frame in clip['frames']:
        height, width = frame['img_shape']
        assert frame['img'].shape == (height, width, 3) and frame['gt_masks'].shape[1:] == (height, width)
        ids = frame['gt_instances_id'].tolist()
        assert len(ids) == len(set(ids)) == len(frame['gt_masks']) == len(frame['gt_bboxes']) == len(frame['gt_labels'])
        assert frame['gt_masks'].sum(0).max(initial=0) <= 1
        assert (frame['gt_bboxes'] >= 0).all() and (frame['gt_bboxes'] <= (width, height, width, height)).all()


def test_a_clip_of_one_frame_has_no_reference_frame():
    """Nothing is removed from the key frame, small objects included."""
    clip, expected = (rectangle_clip((5, 5, 2, 2), (20, 12, 30, 20), frames=1) for _ in range(2))
    assert all(map(equal_frames, AffineColourReference()(clip)['frames'], expected['frames']))
