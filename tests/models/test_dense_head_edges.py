"""Edge cases where the published SipMask and FCOS heads fail: no ground truth, positives or kept box, small inputs."""
import math

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.errors import UserError
from mmdet.models.dense_heads.base_dense_head import FrameGeometry
from mmdet.models.task_modules.fast_nms import fast_nms
from mmdet.structures import DetDataSample, legacy_iou
from tests.helpers.dense import build_fcos, build_sipmask
from tests.helpers.golden import clip_of
from tests.helpers.models import build_memcnp


def frame_with(boxes: list, height: int = 64, width: int = 96) -> DetDataSample:
    masks = torch.zeros(len(boxes), height, width, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes):
        mask[int(y1):int(y2) + 1, int(x1):int(x2) + 1] = 1
    return DetDataSample(
        metainfo=dict(frame_id=0, scale_factor=1.0, ori_shape=(height, width), img_shape=(height, width)),
        gt_instances=InstanceData(
            bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), masks=masks,
            labels=torch.zeros(len(boxes), dtype=torch.long), instances_id=torch.arange(1, len(boxes) + 1)))


ONE = [[20.0, 10.0, 60.0, 50.0]]
CASES = {
    'no ground truth': ([[], []], [[], []]),
    'one image without': ([ONE, []], [ONE, []]),
    'one object': ([ONE], [ONE]),
    'no positive: between the points': ([[[1.0, 1.0, 2.0, 2.0]]], [[[1.0, 1.0, 2.0, 2.0]]]),
    'empty reference': ([ONE], [[]]),
    'three objects, one of the size of the image': ([[*ONE, [0.0, 0.0, 95.0, 63.0], [90.0, 60.0, 95.0, 63.0]]], [ONE]),
}
SMALL = dict(embed_dims=32, channels=32)
# distances near 0: few boxes survive or none; three strides: all do; turned inside out: none
BIASES = {'start of training': 0.0, 'boxes': 3.0, 'inside out': -3.0}


def check_backward(model, losses: dict) -> None:
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert all(torch.isfinite(value) for value in losses.values()), losses
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f'{name}: distributed training would look for unused parameters'
            assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize('bias', BIASES.values(), ids=BIASES.keys())
@pytest.mark.parametrize('case', CASES)
def test_sipmask_losses_are_finite_and_differentiable(case, bias):
    torch.manual_seed(0)
    model = build_sipmask(**SMALL).train()
    model.bbox_head.fcos_reg.bias.data += bias
    keys, references = CASES[case]
    clips = [clip_of([frame_with(key), frame_with(reference)]) for key, reference in zip(keys, references)]
    losses = model(torch.randn(len(clips), 2, 3, 64, 96), clips, mode='loss')
    check_backward(model, losses)
    assert losses['loss_cls'] > 0
    has_positive = not case.startswith('no ')
    assert (losses['loss_bbox'] > 0) == has_positive
    if bias or not has_positive:
        assert (losses['loss_mask'] > 0) == (has_positive and bias > 0)
        # either wrong or right: something was compared
        assert (losses['loss_match'] + losses['match_acc'] > 0) == (has_positive and bias > 0)


@pytest.mark.parametrize('options', [{}, dict(center_radius=1.5, centerness_on_reg=True, norm_on_bbox=True,
                                              box_loss='giou')], ids=['published', 'improved'])
@pytest.mark.parametrize('case', CASES)
def test_fcos_losses_are_finite_and_differentiable(case, options):
    torch.manual_seed(0)
    model = build_fcos(**options).train()
    clips = [clip_of([frame_with(key)]) for key in CASES[case][0]]
    losses = model(torch.randn(len(clips), 1, 3, 64, 96), clips, mode='loss')
    check_backward(model, losses)
    assert losses['loss_cls'] > 0
    # centre sampling finds no point around tiny objects either
    assert (losses['loss_bbox'] > 0) == (not case.startswith('no '))


def test_fcos_distances_that_would_overflow():
    model = build_fcos().train()
    model.bbox_head.fcos_reg.bias.data += 1000.0
    losses = model(torch.randn(1, 1, 3, 64, 96), [clip_of([frame_with(ONE)])], mode='loss')
    check_backward(model, losses)


@pytest.mark.parametrize('build', [build_sipmask, build_fcos])
def test_autocast_losses_are_finite(build):
    model = build(**SMALL).train()
    clips = [clip_of([frame_with(ONE), frame_with(ONE)])]
    with torch.autocast('cpu', torch.bfloat16):
        losses = model(torch.randn(1, 2, 3, 64, 96), clips, mode='loss')
    assert all(torch.isfinite(value) and value.dtype == torch.float32 for value in losses.values())


@pytest.mark.parametrize('build', [build_sipmask, build_fcos])
@pytest.mark.parametrize(('height', 'width'), [(32, 32), (32, 320), (160, 64)])
def test_inputs_smaller_than_the_coarsest_kernels(build, height, width):
    torch.manual_seed(0)
    model = build(embed_dims=32, channels=64, test_cfg=dict(score_thr=0.0)).eval()
    model.bbox_head.fcos_reg.bias.data += 2.0
    clip = clip_of([frame_with([], height, width)])
    model(torch.randn(1, 1, 3, height, width), [clip], mode='predict')
    found = clip[0].pred_track_instances
    assert len(found) > 0
    assert (found.bboxes >= 0).all()
    assert (found.bboxes <= torch.tensor([width - 1, height - 1] * 2)).all()
    assert found.scores.sort(descending=True).values.equal(found.scores)
    if build is build_sipmask:
        assert all(rle['size'] == [height, width] for rle in found.masks)


@pytest.mark.parametrize('build', [build_sipmask, build_fcos])
def test_without_scores_above_the_threshold_the_result_is_empty(build):
    model = build(**SMALL, test_cfg=dict(score_thr=0.99)).eval()
    clip = clip_of([frame_with([])])
    model(torch.randn(1, 1, 3, 64, 96), [clip], mode='predict')
    assert len(clip[0].pred_track_instances) == 0
    assert clip[0].pred_track_instances.bboxes.shape == (0, 4)


def test_boxes_with_negative_width_or_height_are_dropped():
    model = build_sipmask(**SMALL, test_cfg=dict(score_thr=0.0)).eval()
    model.bbox_head.fcos_reg.bias.data -= 3.0
    clip = clip_of([frame_with([])])
    model(torch.randn(1, 1, 3, 64, 96), [clip], mode='predict')
    found = clip[0].pred_track_instances
    assert (found.bboxes[:, :2] <= found.bboxes[:, 2:]).all()


def test_fcos_finds_each_object_once():
    """Boxes and scores put into the outputs by hand come out, without their duplicates, in original pixels."""
    model = build_fcos(num_classes=2, strides=(8,)).eval()
    outputs = model.bbox_head(model.neck(model.backbone(torch.randn(2, 3, 64, 64))))
    outputs.cls_logits.fill_(-20.0)
    outputs.centerness.fill_(0.0)  # probability ½
    for image, location, label, logit, box in [
            (0, 3, 1, 2.0, [8, 8, 40, 40]), (0, 7, 1, 1.0, [9, 8, 40, 41]), (0, 9, 0, 0.0, [8, 8, 40, 40]),
            (1, 5, 0, 1.0, [-5, 4, 100, 30])]:
        outputs.cls_logits[image, location, label] = logit
        outputs.bboxes[image, location] = torch.tensor(box, dtype=torch.float32)
    geometries = [FrameGeometry(0.5, (64, 60), (128, 120))] * 2
    first, second = model.bbox_head.results(model.bbox_head.detect(outputs, geometries), geometries)
    assert first.labels.tolist() == [1, 0]
    assert first.bboxes.tolist() == [[16, 16, 80, 80]] * 2
    assert first.scores.tolist() == pytest.approx([0.5 / (1 + math.exp(-2)), 0.25])
    assert second.bboxes.tolist() == [[0, 8, 118, 60]]  # clipped to the image without its padding


def test_class_agnostic_nms_keeps_each_box_once_with_its_best_class():
    """Two classes of one box and a worse box of the other class become one detection; a box elsewhere stays."""
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 11], [20, 0, 30, 10]]])
    scores = torch.tensor([[[0.9, 0.5], [0.3, 0.6], [0.2, 0.1]]])
    found = {agnostic: fast_nms(boxes, scores, 0.5, 0.05, 10, agnostic=agnostic) for agnostic in (False, True)}
    assert found[False].scores[found[False].valid].tolist() == pytest.approx([0.9, 0.6, 0.2, 0.1])
    assert found[False].labels[found[False].valid].tolist() == [0, 1, 0, 1]
    valid = found[True].valid
    assert found[True].scores[valid].tolist() == pytest.approx([0.9, 0.2])
    assert found[True].labels[valid].tolist() == [0, 0]
    assert found[True].index[valid].tolist() == [0, 2]
    assert torch.equal(found[True].bboxes[valid], boxes[0, [0, 2]])


@pytest.mark.parametrize('build', [build_sipmask, build_fcos, build_memcnp])
def test_with_class_agnostic_nms_no_two_boxes_overlap(build):
    overlaps = {}
    for nms in ('per_class', 'agnostic'):
        torch.manual_seed(0)
        model = build(**SMALL, num_classes=3, test_cfg=dict(score_thr=0.0, nms=nms)).eval()
        if build is not build_memcnp:
            model.bbox_head.fcos_reg.bias.data += 3.0
        clip = clip_of([frame_with([])])
        model(torch.randn(1, 1, 3, 64, 96), [clip], mode='predict')
        boxes = clip[0].pred_track_instances.bboxes
        overlaps[nms] = legacy_iou(boxes.numpy(), boxes.numpy())[np.triu_indices(len(boxes), 1)]
    assert overlaps['per_class'].max() > 0.55  # by either convention of boxes
    assert (overlaps['agnostic'] < 0.55).all()


def test_fcos_threshold_applies_to_the_class_probability_alone():
    model = build_fcos(num_classes=1, strides=(8,), test_cfg=dict(score_thr=0.4)).eval()
    outputs = model.bbox_head(model.neck(model.backbone(torch.randn(1, 3, 64, 64))))
    outputs.cls_logits.fill_(-20.0)
    outputs.cls_logits[0, 3] = 0.0
    outputs.centerness.fill_(-3.0)
    geometries = [FrameGeometry(1.0, (64, 64), (64, 64))]
    found, = model.bbox_head.results(model.bbox_head.detect(outputs, geometries), geometries)
    assert found.scores.tolist() == pytest.approx([0.5 / (1 + math.exp(3))])


@pytest.mark.parametrize(('options', 'named'), [
    (dict(box_loss='l1'), 'box_loss'), (dict(regress_ranges=[(-1, 64)]), 'regress_ranges')])
def test_invalid_arguments_of_fcos_are_user_errors(options, named):
    with pytest.raises(UserError, match=named):
        build_fcos(**options)


@pytest.mark.parametrize('build', [build_sipmask, build_fcos, build_memcnp])
def test_every_head_takes_the_published_and_the_common_key_of_nms_pre(build):
    settings = [build(**SMALL, test_cfg={key: 7, 'nms_thr': 0.6}).bbox_head.test_settings
                for key in ('nms_pre', 'max_pre_nms')]
    assert settings[0] == settings[1]
    assert (settings[0].nms_pre, settings[0].nms_thr) == (7, 0.6)


@pytest.mark.parametrize('build', [build_sipmask, build_fcos, build_memcnp])
def test_unknown_test_settings_are_user_errors(build):
    with pytest.raises(UserError, match="test_cfg has no key 'iou_thr'; use nms_pre, score_thr, nms_thr"):
        build(**SMALL, test_cfg=dict(iou_thr=0.5))
    with pytest.raises(UserError, match="test_cfg nms='soft' is unknown; use one of per_class, agnostic"):
        build(**SMALL, test_cfg=dict(nms='soft'))


@pytest.mark.parametrize(('build', 'options'), [
    (build_sipmask, dict(center_radius=0)), (build_sipmask, dict(center_radius='x')),
    (build_sipmask, dict(track_jitter=-1)), (build_fcos, dict(center_radius=-1))])
def test_numbers_out_of_range_are_user_errors(build, options):
    (name, value), = options.items()
    with pytest.raises(UserError, match=f'{name} must be a number .*, not {value!r}'):
        build(**SMALL, **options)


def test_too_few_levels_of_sipmask_are_a_user_error():
    with pytest.raises(UserError, match='strides'):
        build_sipmask(strides=(8, 16))
