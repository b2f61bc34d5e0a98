"""MaskTrack R-CNN against the published implementation: parameter names, boxes, masks, labels, ids."""
import numpy as np
import torch
from pycocotools import mask as coco_mask

from mmdet.registry import MODELS
from tests.helpers.golden import fill_golden, golden_json, golden_video


def build():
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


def test_parameter_names_and_shapes():
    shapes = {name: list(tensor.shape) for name, tensor in build().state_dict().items()}
    assert shapes == golden_json('masktrack_r50.state_dict.json')


def test_videos(device):
    """Ids and labels exactly, boxes to 1e-2 px, scores to 1e-4, masks to 1 pixel in 10⁴."""
    model = build().to(device)
    golden = {(frame['video'], frame['frame']): frame['instances'] for frame in golden_json('masktrack_r50_track.json')}
    rng = np.random.default_rng(52)
    for video in range(2):
        inputs, clip = golden_video(rng, length=4, device=device)
        predicted, = model(inputs, [clip], mode='predict')
        for index, frame in enumerate(predicted):
            found, expected = frame.pred_track_instances.cpu(), golden.pop((video, index))
            assert found.instances_id.tolist() == [instance['id'] for instance in expected]
            assert found.labels.tolist() == [instance['label'] for instance in expected]
            rows = torch.tensor([instance['bbox'] for instance in expected])
            assert (found.bboxes - rows[:, :4]).abs().max() < 1e-2
            assert (found.scores - rows[:, 4]).abs().max() < 1e-4
            decoded = coco_mask.decode(found.masks)
            published = coco_mask.decode([instance['rle'] for instance in expected])
            assert decoded.shape == published.shape
            assert (decoded != published).mean() <= 1e-4
    assert not golden
