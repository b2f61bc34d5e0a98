"""Normalisation and padding against their formulas."""
import copy

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.models.data_preprocessors import TrackDataPreprocessor
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def make_clip(*shapes: tuple[int, int], objects: int | None = None) -> tuple[torch.Tensor, TrackDataSample]:
    """A clip of frames of these shapes, padded to their largest as the pipeline does."""
    height, width = (max(shape[side] for shape in shapes) for side in (0, 1))
    clip, sample = torch.zeros((len(shapes), 3, height, width), dtype=torch.uint8), TrackDataSample()
    frames = []
    for image, (h, w) in zip(clip, shapes):
        image[:, :h, :w] = torch.randint(0, 256, (3, h, w), dtype=torch.uint8)
        frames.append(DetDataSample(metainfo={'img_shape': (h, w)}))
        if objects is not None:
            frames[-1].gt_instances = InstanceData(masks=torch.ones((objects, h, w), dtype=torch.uint8),
                                                   bboxes=np.full((objects, 4), .5, np.float32))
    sample.video_data_samples = frames
    return clip, sample


def collate(*clips) -> dict:
    return {'inputs': [clip for clip, _ in clips], 'data_samples': [sample for _, sample in clips]}


def test_formula():
    clip, sample = make_clip((32, 64), (32, 64))
    result = TrackDataPreprocessor()(collate((clip, sample)))['inputs']
    assert result.shape == (1, 2, 3, 32, 64) and result.dtype == torch.float32
    for channel in range(3):  # RGB out of BGR
        expected = (clip[:, 2 - channel].double() - MEAN[channel]) / STD[channel]
        assert torch.allclose(result[0, :, channel].double(), expected, atol=1e-6)


def test_bgr_networks():
    clip, sample = make_clip((32, 32))
    result = TrackDataPreprocessor(mean=(1, 2, 3), std=(1, 1, 1), bgr_to_rgb=False)(collate((clip, sample)))['inputs']
    assert torch.equal(result[0], clip - torch.tensor([1., 2., 3.])[:, None, None])


@pytest.mark.parametrize('shapes, divisor, size', [
    (((32, 64), (32, 64)), 32, (32, 64)),
    (((33, 64), (20, 65)), 32, (64, 96)),
    (((1, 1), (1, 1)), 32, (32, 32)),
    (((5, 7), (6, 3)), 1, (6, 7))], ids=['fits', 'largest of both', 'one pixel', 'no divisor'])
def test_padding(shapes, divisor, size):
    clips = [make_clip(shape, shape, objects=2) for shape in shapes]
    result = TrackDataPreprocessor(pad_size_divisor=divisor)(collate(*clips))
    assert result['inputs'].shape == (2, 2, 3, *size)
    for (h, w), batch, sample in zip(shapes, result['inputs'], result['data_samples']):
        assert not batch[..., h:, :].any() and not batch[..., w:].any()
        assert batch[..., :h, :w].all()  # no pixel equals the mean
        for frame in sample:
            assert frame.batch_input_shape == size and frame.img_shape == (h, w)
            masks = frame.gt_instances.masks
            assert torch.equal(frame.gt_instances.bboxes, torch.full((2, 4), .5))
            assert masks.shape == (2, *size) and masks.dtype == torch.uint8
            assert masks[:, :h, :w].all() and masks.sum() == 2 * h * w


def test_smaller_frames_of_a_clip_are_padded_after_normalisation():
    result = TrackDataPreprocessor()(collate(make_clip((32, 20), (10, 32))))['inputs'][0]
    assert not result[0, :, :, 20:].any() and not result[1, :, 10:].any()
    assert result[0, :, :, :20].all() and result[1, :, :10].all()


def test_no_objects_and_no_annotations():
    result = TrackDataPreprocessor()(collate(make_clip((8, 8), objects=0), make_clip((8, 8))))
    assert result['data_samples'][0][0].gt_instances.masks.shape == (0, 32, 32)
    assert 'gt_instances' not in result['data_samples'][1][0]


def test_arguments_are_not_modified():
    clip, sample = make_clip((8, 8), objects=1)
    before = clip.clone(), copy.deepcopy(sample)
    TrackDataPreprocessor()(collate((clip, sample)))
    assert torch.equal(clip, before[0])
    assert sample[0].gt_instances.masks.shape == (1, 8, 8) and 'batch_input_shape' not in sample[0]
    assert isinstance(sample[0].gt_instances.bboxes, np.ndarray)


def test_layout_in_memory_does_not_matter():
    clip, sample = make_clip((16, 24), (16, 24))
    process = TrackDataPreprocessor()
    last = clip.contiguous(memory_format=torch.channels_last)
    assert torch.equal(process(collate((clip, sample)))['inputs'], process(collate((last, sample)))['inputs'])


def test_checkpoints_do_not_contain_its_buffers():
    assert not MODELS.build({'type': 'TrackDataPreprocessor'}).state_dict()


@pytest.mark.cuda
def test_everything_moves_to_the_device():
    result = TrackDataPreprocessor().cuda()(collate(make_clip((8, 8), objects=1)))
    assert result['inputs'].is_cuda and result['data_samples'][0][0].gt_instances.masks.is_cuda
