"""Tiny MaskTrack and CMaskTrack R-CNN and clips for them, for tests: the real classes and code paths, small numbers."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision.models.resnet import Bottleneck

from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample

SIZE = (64, 96)


def two_stage_config(calibrated: bool = False, channels: int = 16, num_classes: int = 3, **kwargs) -> dict:
    """Config of a small model, which takes normalised inputs. Further arguments go to the detector."""
    track = dict(type='CalibratedTrackHead', patch_size=4) if calibrated else dict(type='TrackHead')
    return dict(
        type='CMaskTrackRCNN' if calibrated else 'MaskTrackRCNN',
        backbone=dict(type='ResNet', depth=50, frozen_stages=-1),
        neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], out_channels=channels, num_outs=5,
                  extra_levels='pool'),
        rpn_head=dict(type='RPNHead', in_channels=channels, nms_pre=20, max_per_img=20,
                      sampler=dict(type='RandomBoxSampler', num=64, pos_fraction=0.5)),
        bbox_head=dict(type='Shared2FCBBoxHead', num_classes=num_classes, in_channels=channels, fc_channels=32,
                       max_per_img=5),
        mask_head=dict(type='FCNMaskHead', num_classes=num_classes, in_channels=channels),
        track_head=track | dict(in_channels=channels, fc_channels=32),
        tracker=dict(type='AssociationTracker', similarity='dot', temperature=1.0),
        sampler=dict(type='RandomBoxSampler', num=32, pos_fraction=0.25)) | kwargs


def build_two_stage(**kwargs) -> BaseModel:
    """The model of :func:`two_stage_config`, always with the same weights."""
    torch.manual_seed(0)
    model = MODELS.build(two_stage_config(**kwargs))
    model.init_weights()
    return model


def build_detecting(**kwargs) -> BaseModel:
    """The model of :func:`build_two_stage` for testing, with detections whose boxes and masks depend on the image."""
    model = build_two_stage(**kwargs).eval()
    torch.manual_seed(1)
    for module in (model.bbox_head.fc_cls, model.bbox_head.fc_reg, model.mask_head.conv_logits):
        torch.nn.init.normal_(module.weight, std=0.5)
    for module in model.backbone.modules():  # activations do not grow from block to block
        if isinstance(module, Bottleneck):
            torch.nn.init.zeros_(module.bn3.weight)
    return model


def annotated_frame(bboxes: Sequence[Sequence[float]], ids: Sequence[int] | None = None) -> DetDataSample:
    """A frame of :data:`SIZE` with an object in each box, its mask; labels 0, 1, 2, 0, …; ids 1, 2, … unless given."""
    boxes = torch.tensor(bboxes, dtype=torch.float32).reshape(-1, 4)
    masks = torch.zeros(len(boxes), *SIZE, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist()):
        mask[y1:y2 + 1, x1:x2 + 1] = 1
    ids = torch.arange(1, len(boxes) + 1) if ids is None else torch.tensor(ids, dtype=torch.long)
    return DetDataSample(metainfo=dict(img_shape=SIZE, scale_factor=1.0), gt_instances=InstanceData(
        bboxes=boxes, labels=torch.arange(len(boxes)) % 3, masks=masks, instances_id=ids))


def plain_frames(frame_ids: Sequence[int], context: Sequence[int] = ()) -> list[DetDataSample]:
    """Frames of a video to test on, at half the original size; those in ``context`` are marked as context."""
    height, width = SIZE
    return [DetDataSample(metainfo=dict(frame_id=frame_id, img_shape=SIZE, ori_shape=(2 * height, 2 * width),
                                        scale_factor=0.5, is_context=frame_id in context)) for frame_id in frame_ids]


def clip(frames: Sequence[DetDataSample]) -> TrackDataSample:
    """A clip of the frames given."""
    sample = TrackDataSample()
    sample.video_data_samples = list(frames)
    return sample


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Normalised images (*shape, 3, H, W) of :data:`SIZE`."""
    return torch.randn(*shape, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


def same_results(first: Sequence[DetDataSample], second: Sequence[DetDataSample]) -> None:
    """Asserts that the results of frames are equal up to rounding."""
    for one, two in zip(first, second, strict=True):
        one, two = one.pred_track_instances, two.pred_track_instances
        assert torch.equal(one.instances_id, two.instances_id) and torch.equal(one.labels, two.labels)
        torch.testing.assert_close(one.bboxes, two.bboxes, rtol=1e-4, atol=1e-2)
        torch.testing.assert_close(one.scores, two.scores, rtol=1e-4, atol=1e-5)
        if len(one):
            assert (coco_mask.decode(one.masks) != coco_mask.decode(two.masks)).mean() < 1e-3
