"""``video_memory``: the objects of the previous frame, in training of the reference frame, as units of each video."""
import math

import pytest
import torch
import torch.nn.functional as F

from mmdet.apis import load_config
from mmdet.checkpoint.class_layers import class_counts
from mmdet.errors import UserError
from mmdet.models.memory import VideoMemory
from mmdet.models.memory.video_memory import Objects, imperfect, nearness
from mmdet.models.task_modules.fast_nms import Detections
from mmdet.models.task_modules.padded_targets import PaddedTargets
from mmdet.models.task_modules.points import Grid
from tests.helpers.models import build_memcnp
from tools.analysis_tools.measures.synthetic import synthetic_clips

SMALL = dict(embed_dims=32, channels=32, track_jitter=0.0)
PERFECT = dict(drop_frame=0.0, drop_object=0.0, false_object=0.0, wrong_class=0.0, box_noise=0.0)
LEFT, RIGHT = [0.0, 0.0, 32.0, 32.0], [32.0, 0.0, 64.0, 32.0]  # halves of an image of 32 × 64 pixels


def memory_of(**kwargs):
    torch.manual_seed(0)
    return VideoMemory(channels=2, num_classes=3, **kwargs)


def objects_of(*bboxes, labels=None):
    return Objects(torch.tensor([bboxes]), torch.tensor([labels or [0] * len(bboxes)]),
                   torch.ones(1, len(bboxes), dtype=torch.bool))


def two_halves():
    """Features (3, 4) in the left and (−4, 3) in the right half, at stride 8, and the grid."""
    feat = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1).repeat(1, 1, 4, 8)
    feat[..., 4:] = torch.tensor([-4.0, 3.0]).view(2, 1, 1)
    return [feat], Grid.of([feat], (8,))


def losses_of(model, seed=0):
    inputs, clips = synthetic_clips(2, 2, (64, 96), num_classes=5, original=(64, 96), seed=seed)
    return model.train()(inputs, clips, mode='loss')


def model_of(**kwargs):
    torch.manual_seed(0)
    return build_memcnp(**SMALL, **kwargs)


def test_nearness_is_1_in_the_centre_0_on_the_border_and_at_least_minus_1():
    distances = torch.tensor([[10.0, 4, 10, 4], [0, 4, 20, 4], [5, 4, 15, 4], [-5, 4, 25, 4], [-90, 4, 110, 4]])
    assert torch.allclose(nearness(distances), torch.tensor([1, 0, 0.5, -0.5, -1]))


def test_a_unit_is_the_mean_feature_the_relative_box_and_the_class_of_its_object():
    feats, grid = two_halves()
    units, = memory_of().write(feats, grid, objects_of(LEFT, RIGHT, labels=[2, 1]))
    assert torch.allclose(units, torch.tensor([[3.0, 4, 0, 0, 0.5, 1, 2, 1], [-4, 3, 0.5, 0, 1, 1, 1, 1]]), atol=1e-5)


def test_an_object_of_the_previous_frame_is_read_where_it_was():
    """Location (12, 12) in the left box: ρ = min(12, 20)/16; the right box is orthogonal in its feature, ρ = −1."""
    feats, grid = two_halves()
    memory = memory_of(read_temperature=0.5, box_prior=0.25).requires_grad_(False)
    units = memory.write(feats, grid, objects_of(LEFT, RIGHT, labels=[2, 1]))
    (context,), (prior,) = memory(feats, grid, units)
    alpha, beta, gamma = (float(value) for value in memory.addressing)
    exps = [math.exp((alpha * cosine + beta * near - gamma) / 0.5) for cosine, near in ((1, 0.75), (0, -1))]
    weights = [value / (1 + sum(exps)) for value in exps]
    logits = torch.tensor([[12 / 64, 12 / 32, 20 / 64, 20 / 32], [0.01, 12 / 32, 52 / 64, 20 / 32]]).logit()
    hidden = sum(
        weight * (memory.values(torch.cat([torch.tensor(direction), y])) + memory.classes.weight[label])
        for weight, direction, y, label in zip(weights, ([0.6, 0.8], [-0.8, 0.6]), logits, (2, 1)))
    assert torch.allclose(context[0, :, 1, 1], memory.out(F.gelu(hidden)), atol=1e-5)
    boxes = weights[0] * logits[0] + weights[1] * logits[1]
    assert torch.allclose(prior[0, :, 1, 1], 0.25 * torch.tensor([sum(weights), *boxes]), atol=1e-5)
    assert weights[0] > 0.9 and weights[1] < 0.01


def test_locations_without_an_object_read_nothing():
    feats, grid = two_halves()
    memory = memory_of()
    (context,), _ = memory(feats, grid, memory.write(feats, grid, objects_of(LEFT)))
    norms = context.detach().norm(dim=1)
    assert norms[..., :4].min() > 100 * norms[..., 5:].max()
    (context,), (prior,) = memory(feats, grid, memory.empty_units(4))
    assert context.shape == (1, 2, 4, 8) and prior.shape == (1, 5, 4, 8) and not context.any() and not prior.any()


def test_an_object_of_features_that_are_not_finite_is_not_written():
    feats, grid = two_halves()
    feats[0][0, 0, 0, 0] = torch.nan
    memory = memory_of()
    assert not memory.write(feats, grid, objects_of(LEFT)).any()


def test_confident_detections_are_written_as_annotated_objects_are():
    feats, grid = two_halves()
    objects = objects_of(LEFT, RIGHT, labels=[2, 1])
    memory = memory_of(**PERFECT)
    annotated = memory.write_annotated(feats, grid, PaddedTargets(objects.bboxes, objects.labels, objects.labels,
                                                                  objects.valid))
    found = Detections(objects.bboxes, torch.tensor([[0.9, 0.8]]), objects.labels, objects.labels, objects.valid)
    assert torch.equal(memory.write_detected(feats, grid, found, 0.5), annotated)
    assert torch.equal(memory.write(feats, grid, objects), annotated)


@pytest.mark.parametrize(('bboxes', 'scores', 'expected'), [
    pytest.param([LEFT, RIGHT], [0.5, 0.3], [1, 0], id='a low score'),
    pytest.param([LEFT, [0.0, 0, 32, 30], RIGHT], [0.9, 0.8, 0.7], [1, 0, 1], id='one object under two classes'),
    pytest.param([LEFT, [5.0, 5, 5, 5], [5.0, 5, 5, 5]], [0.9, 0.0, 0.0], [1, 0, 0], id='empty slots')])
def test_other_detections_are_not_written(bboxes, scores, expected):
    feats, grid = two_halves()
    objects, scores = objects_of(*bboxes), torch.tensor([scores])
    found = Detections(objects.bboxes, scores, objects.labels, objects.labels, scores > 0)
    assert memory_of(score_thr=0.4).write_detected(feats, grid, found, 0.5)[0, :, -1].tolist() == expected


def test_mistakes_have_the_given_probabilities_and_sizes():
    torch.manual_seed(0)
    box = [10.0, 10.0, 20.0, 30.0]
    objects = Objects(torch.tensor(box).expand(500, 8, 4), torch.zeros(500, 8, dtype=torch.long),
                      torch.arange(8).expand(500, 8) < 6)
    same = imperfect(objects, 4, **PERFECT)
    assert all(torch.equal(*pair) for pair in zip(same, objects))

    def changed(**mistakes):
        return imperfect(objects, 4, **{**PERFECT, **mistakes})

    kept = changed(drop_frame=0.3).valid
    assert set(kept.sum(dim=1).tolist()) == {0, 6} and 0.2 < (kept.sum(dim=1) == 0).float().mean() < 0.4
    assert 0.15 < 1 - changed(drop_object=0.2).valid[:, :6].float().mean() < 0.25
    assert not changed(drop_object=0.2).valid[:, 6:].any()
    assert 0.1 < changed(wrong_class=0.2).labels.bool().float().mean() < 0.2  # 3 of 4 random classes are wrong
    noise = (changed(box_noise=0.1).bboxes - objects.bboxes).std(dim=(0, 1))
    assert torch.allclose(noise, torch.tensor([1.0, 2, 1, 2]), rtol=0.1)
    false = changed(false_object=0.5)
    shift = false.bboxes - objects.bboxes
    assert 0.45 < shift.any(dim=2).float().mean() < 0.55
    assert torch.allclose(shift[..., :2], shift[..., 2:], atol=1e-4)
    assert 15 < shift[..., 0].abs().max() <= 20.01 and 30 < shift[..., 1].abs().max() <= 40.01


def test_without_objects_the_losses_are_those_of_the_shared_memory():
    expected, losses = losses_of(model_of()), losses_of(model_of(video_memory=dict(drop_frame=1.0)))
    assert losses == expected
    read = losses_of(model_of(video_memory=PERFECT))
    assert read['loss_bbox'] != expected['loss_bbox'] and read['loss_cls'] != expected['loss_cls']


@pytest.mark.parametrize('drop_frame', [0.0, 1.0])
def test_all_parameters_have_gradients_also_without_objects(drop_frame):
    model = model_of(video_memory={**PERFECT, 'drop_frame': drop_frame})
    sum(value for name, value in losses_of(model).items() if 'loss' in name).backward()
    gradients = [parameter.grad for parameter in model.bbox_head.video_memory.parameters()]
    assert all(gradient is not None and bool(gradient.any()) == (not drop_frame) for gradient in gradients)


def test_key_frames_read_the_objects_of_their_own_video():
    """Another reference frame of the second pair changes the outputs of its key frame only."""
    head = model_of(video_memory=PERFECT).train().bbox_head
    bboxes = torch.tensor([[[8.0, 8.0, 40.0, 40.0]], [[16.0, 8.0, 64.0, 56.0]]])
    targets = PaddedTargets(bboxes, torch.tensor([[1], [2]]), torch.tensor([[1], [2]]),
                            torch.ones(2, 1, dtype=torch.bool))
    feats = [torch.randn(4, 32, 64 // stride, 96 // stride) for stride in (8, 16, 32)]
    other = PaddedTargets(bboxes + torch.tensor([0.0, 8.0]).view(2, 1, 1), targets.gt_labels, targets.gt_ids,
                          targets.valid)
    units = head.mem.feat_units.weight.detach().clone()
    outputs = []
    for references in (targets, other):
        head.mem.feat_units.weight.data.copy_(units)  # a training writes to them
        outputs.append(head(feats, targets, references=references))
    for name in ('cls_logits', 'means', 'sigmas'):
        before, after = (getattr(output, name) for output in outputs)
        assert torch.equal(before[0], after[0]) and not torch.equal(before[1], after[1]), name


def test_the_output_of_the_box_branch_is_averaged_with_the_box_that_is_read():
    """A box branch of output 0, half of the image for each distance, and an object that does not move."""
    boxes = {}
    for box_prior in (0.999, 0.25, 0.0):
        head = model_of(video_memory=dict(box_prior=box_prior, read_temperature=0.01)).bbox_head.requires_grad_(False)
        for parameter in head.fcos_reg.parameters():
            parameter.zero_()
        feats = [torch.ones(1, 32, 64 // stride, 96 // stride) for stride in (8, 16, 32)]
        grid = Grid.of(feats, head.strides)
        units = head.video_memory.write([head.cls_convs(feat) for feat in feats], grid, objects_of([24.0, 8, 56, 40]))
        centre = (grid.points - torch.tensor([40.0, 24])).norm(dim=1).argmin()
        boxes[box_prior] = head(feats, units=units).means[0, centre].logit()
        x, y = grid.points[centre].tolist()
    previous = torch.tensor([(x - 24) / 96, (y - 8) / 64, (56 - x) / 96, (40 - y) / 64]).logit()
    for box_prior, found in boxes.items():
        assert torch.allclose(found, box_prior * previous, atol=1e-2), box_prior


def test_features_get_no_gradient():
    feats, grid = two_halves()
    feats[0].requires_grad_()
    memory = memory_of()
    units = memory.write(feats, grid, objects_of(LEFT))
    (context,), _ = memory(feats, grid, units)
    assert context.requires_grad and not units.requires_grad
    context.sum().backward()
    assert feats[0].grad is None


def test_it_works_without_the_shared_memory():
    losses = losses_of(model_of(num_units=0, video_memory=PERFECT))
    assert all(bool(value.isfinite()) for value in losses.values())


def test_every_option_is_reached_from_the_command_line():
    key = 'model.bbox_head.video_memory'
    options = {'score_thr': 0.4, 'read_temperature': 0.2, 'box_prior': 0.0, 'drop_frame': 0.5, 'drop_object': 0.1,
               'false_object': 0.0, 'wrong_class': 0.0, 'box_noise': 0.1}
    cfg = load_config('configs/memcnp_toy.py', [(f'{key}.{name}', str(value)) for name, value in options.items()])
    assert cfg.model.bbox_head.video_memory == options
    memory_of(**cfg.model.bbox_head.video_memory)


def test_class_embeddings_follow_the_classes():
    with torch.device('meta'):
        old, new = (build_memcnp(**SMALL, num_classes=count, video_memory={}) for count in (3, 7))
    layers, *counts = class_counts(new, old.state_dict())
    assert 'bbox_head.video_memory.classes.weight' in layers and counts == [3, 7]


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(video_memory=dict(drop_frame=2)), 'VideoMemory drop_frame must be a number from 0 to 1, not 2'),
    (dict(video_memory=dict(box_prior=1.0)), 'VideoMemory box_prior=1 must be below 1'),
    (dict(video_memory=dict(read_temperature=0)), 'VideoMemory read_temperature must be a number above 0, not 0'),
    (dict(video_memory={}, memory=dict(online_memory={})), 'cannot be combined: set one of them to None')])
def test_settings_that_are_none(settings, message):
    with pytest.raises(UserError, match=message):
        build_memcnp(**SMALL, **settings)
