"""Edge cases of the MemCNP head, where the published one fails: no ground truth, positives or kept box, small input."""
import copy

import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.errors import UserError
from mmdet.structures import DetDataSample
from tests.helpers.golden import clip_of
from tests.helpers.models import build_memcnp


def frame_with(boxes: list, height: int, width: int, first_id: int = 1) -> DetDataSample:
    masks = torch.zeros(len(boxes), height, width, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes):
        mask[int(y1):int(y2) + 1, int(x1):int(x2) + 1] = 1
    return DetDataSample(
        metainfo=dict(frame_id=0, scale_factor=1.0, ori_shape=(height, width), img_shape=(height, width)),
        gt_instances=InstanceData(
            bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), masks=masks,
            labels=torch.zeros(len(boxes), dtype=torch.long),
            instances_id=torch.arange(first_id, first_id + len(boxes))))


ONE = [[20.0, 10.0, 60.0, 50.0]]
CASES = {
    'no ground truth': ([[], []], [[], []]),
    'one image without': ([ONE, []], [ONE, []]),
    'one object': ([ONE], [ONE]),
    'no positive: between the points': ([[[1.0, 1.0, 2.0, 2.0]]], [[[1.0, 1.0, 2.0, 2.0]]]),
    'empty reference': ([ONE], [[]]),
    'three objects, one of the image\'s size': ([[*ONE, [0.0, 0.0, 95.0, 63.0], [90.0, 60.0, 95.0, 63.0]]], [ONE]),
}


@pytest.mark.parametrize('assigner', [dict(type='UncertaintyAssigner'), dict(type='CenterAssigner'),
                                      dict(type='CenterAssigner', radius='image')], ids=['uncert', 'none', 'objbox'])
@pytest.mark.parametrize('case', CASES)
def test_losses_are_finite_and_differentiable(case, assigner):
    torch.manual_seed(0)
    model = build_memcnp(embed_dims=32, channels=32, assigner=assigner).train()
    keys, references = CASES[case]
    clips = [clip_of([frame_with(key, 64, 96), frame_with(reference, 64, 96)])
             for key, reference in zip(keys, references)]
    losses = model(torch.randn(len(clips), 2, 3, 64, 96), clips, mode='loss')
    total = sum(value for name, value in losses.items() if 'loss' in name)
    total.backward()
    assert all(torch.isfinite(value) for value in losses.values()), losses
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    if case == 'no ground truth':
        assert all(value == 0 for value in losses.values())
    else:
        assert losses['loss_cls'] > 0


@pytest.mark.parametrize(('bad', 'message'), [
    (dict(assigner=dict(type='CenterAssigner', radius='strides')), "radius='strides' is unknown; use 'stride' or"),
    (dict(channels=72), 'group norm: 72 channels .*multiple of 32')])
def test_invalid_arguments_are_user_errors(bad, message):
    with pytest.raises(UserError, match=message):
        build_memcnp(embed_dims=32, **bad)


def test_without_memory_the_context_is_zero():
    """num_units=0: the class and box branches see the image only, and the other weights keep their names."""
    model, whole = build_memcnp(embed_dims=32, channels=32, num_units=0), build_memcnp(embed_dims=32, channels=32)
    names = set(whole.state_dict()) - set(model.state_dict())
    assert names == {name for name in whole.state_dict() if name.startswith('bbox_head.mem.')}
    model.load_state_dict({name: value for name, value in whole.state_dict().items() if name not in names})
    feats = [torch.randn(1, 32, 16 // 2 ** level, 16 // 2 ** level) for level in range(4)]
    outputs = model.eval().bbox_head(feats)
    with torch.no_grad():  # the context is the class convolution's second half of channels
        model.bbox_head.fcos_reg.weight[:, 32:] += 1
    assert torch.equal(model.bbox_head(feats).means, outputs.means)
    assert not torch.equal(whole.eval().bbox_head(feats).means, outputs.means)


def test_every_trainable_parameter_has_a_gradient():
    """Distributed training therefore does not need ``find_unused_parameters``."""
    model = build_memcnp(embed_dims=32, channels=32).train()
    clips = [clip_of([frame_with([], 64, 96), frame_with([], 64, 96)])]
    losses = model(torch.randn(1, 2, 3, 64, 96), clips, mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    missing = [name for name, parameter in model.named_parameters()
               if parameter.requires_grad and parameter.grad is None]
    assert missing == []


@pytest.mark.parametrize(('height', 'width'), [(32, 32), (32, 320), (160, 64)])
def test_inputs_smaller_than_the_coarsest_kernels(height, width):
    torch.manual_seed(1)
    model = build_memcnp(embed_dims=32, test_cfg=dict(score_thr=0.0)).eval()
    clip = clip_of([frame_with([], height, width)])
    model(torch.randn(1, 1, 3, height, width), [clip], mode='predict')
    found = clip[0].pred_track_instances
    assert len(found) == len(found.masks) == 10
    assert all(rle['size'] == [height, width] for rle in found.masks)


def test_without_scores_above_the_threshold_the_result_is_empty():
    model = build_memcnp(embed_dims=32, channels=32, test_cfg=dict(score_thr=0.99)).eval()
    clip = clip_of([frame_with([], 64, 96)])
    model(torch.randn(1, 1, 3, 64, 96), [clip], mode='predict')
    assert len(clip[0].pred_track_instances) == 0
    assert clip[0].pred_track_instances.instances_id.shape == (0,)


def test_autocast_losses_are_finite():
    model = build_memcnp(embed_dims=32, channels=32).train()
    clips = [clip_of([frame_with(ONE, 64, 96), frame_with(ONE, 64, 96)])]
    with torch.autocast('cpu', torch.bfloat16):
        losses = model(torch.randn(1, 2, 3, 64, 96), clips, mode='loss')
    assert all(torch.isfinite(value) and value.dtype == torch.float32 for value in losses.values())


def test_activation_checkpointing_does_not_change_gradients():
    clips = [clip_of([frame_with(ONE, 64, 96), frame_with(ONE, 64, 96)])]
    inputs = torch.randn(1, 2, 3, 64, 96)
    torch.manual_seed(1)
    model = build_memcnp(embed_dims=32, channels=32, track_jitter=0.0).train()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients = []
    for with_cp in (False, True):
        model.load_state_dict(state)
        model.zero_grad()
        model.backbone.with_cp = with_cp
        sum(value for name, value in model(inputs, clips, mode='loss').items() if 'loss' in name).backward()
        gradients.append(model.backbone.blocks[0].attn.qkv.weight.grad.clone())
    assert torch.equal(*gradients)


def test_a_copy_of_the_model_is_independent():
    """Moving averages of weights require that a copy shares no tensor with the first model."""
    torch.manual_seed(0)
    model = build_memcnp(embed_dims=32, channels=32, test_cfg=dict(score_thr=0.0)).eval()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    results = []
    for one in (model, twin):
        clip = clip_of([frame_with([], 64, 96)])
        one(torch.ones(1, 1, 3, 64, 96), [clip], mode='predict')
        results.append(clip[0].pred_track_instances.scores)
    assert not torch.equal(*results)
