"""MaskTrack R-CNN against the published implementation: parameter names, boxes, masks, labels, ids."""
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from mmdet.registry import MODELS
from tests.helpers.golden import fill_golden, golden_json, golden_video


@pytest.fixture(scope='module')
def model():
    return fill_golden(MODELS.build(dict(
        type='MaskTrackRCNN',
        legacy_boxes=True,
        backbone=dict(type='ResNet', depth=50),
        neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], num_outs=5, extra_levels='pool'),
        rpn_head=dict(type='RPNHead'),
        bbox_head=dict(type='Shared2FCBBoxHead', num_classes=5),
        mask_head=dict(type='FCNMaskHead', num_classes=5),
        track_head=dict(type='TrackHead'),
        tracker=dict(type='AssociationTracker', similarity='dot', temperature=1.0)))).eval()


@pytest.fixture(scope='module')
def results(model):
    """``pred_track_instances`` of every golden frame by (video, frame)."""
    rng = np.random.default_rng(52)
    found = {}
    for video in range(2):
        inputs, clip = golden_video(rng, length=4)
        predicted, = model(inputs, [clip], mode='predict')
        found |= {(video, frame): sample.pred_track_instances for frame, sample in enumerate(predicted)}
    return found


@pytest.fixture(scope='module')
def golden():
    return {(frame['video'], frame['frame']): frame['instances'] for frame in golden_json('masktrack_r50_track.json')}


def test_parameter_names_and_shapes(model):
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes == golden_json('masktrack_r50.state_dict.json')


def test_ids_and_labels(results, golden):
    assert results.keys() == golden.keys()
    for key, expected in golden.items():
        assert results[key].instances_id.tolist() == [instance['id'] for instance in expected]
        assert results[key].labels.tolist() == [instance['label'] for instance in expected]


def test_boxes_and_scores(results, golden):
    for key, expected in golden.items():
        rows = torch.tensor([instance['bbox'] for instance in expected])
        assert (results[key].bboxes - rows[:, :4]).abs().max() < 1e-2
        assert (results[key].scores - rows[:, 4]).abs().max() < 1e-4


def test_masks(results, golden):
    for key, expected in golden.items():
        decoded = coco_mask.decode(results[key].masks)
        published = coco_mask.decode([instance['rle'] for instance in expected])
        assert decoded.shape == published.shape
        assert (decoded != published).mean() <= 1e-4
