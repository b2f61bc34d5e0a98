"""Options of the MemCNP head that the published one does not have: weights of the losses, dice, sub-pixel mask map."""
import math

import pytest
import torch
from pycocotools.mask import area as mask_area

from mmdet.apis import load_config
from mmdet.apis.config_options import parse_value
from mmdet.errors import UserError
from mmdet.models.dense_heads.cnp_contrast_head import LOSSES
from mmdet.models.losses.coefficient_mask import box_mask_loss
from mmdet.models.task_modules.fast_nms import Detections, rescore_by_masks
from mmdet.models.task_modules.points import enlarge_boxes
from mmdet.ops.device import capturing
from tests.helpers.models import build_memcnp
from tools.analysis_tools.measures.synthetic import synthetic_clips


def losses_of(seed: int = 0, **head) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = build_memcnp(embed_dims=32, channels=32, track_jitter=0.0, **head).train()
    inputs, clips = synthetic_clips(2, 2, (64, 96), num_classes=5, original=(64, 96), seed=seed)
    with torch.no_grad():
        model.bbox_head.fcos_reg.bias[:4] -= 1  # boxes large enough for the mask loss
    return model(inputs, clips, mode='loss')


SCORES = {'model.bbox_head.test_cfg.nms': 'agnostic', 'model.bbox_head.test_cfg.quality_exponent': '0.5',
          'test_evaluator.length_exponent': '0.5'}
TRAINING = {f'model.bbox_head.{key}': value for key, value in {
    'assigner.max_top_k': '16', 'assigner.fraction': '0.5',
    'assigner.scale_ranges': '[(0,64),(48,128),(96,256),(192,inf)]', 'loss_weights.loss_seg': '2.0',
    'dice_weight': '1.0', 'mask_upsample': 'subpixel', 'mask_margin': '0.1'}.items()}


@pytest.mark.parametrize(('name', 'options'), [
    ('memcnp_toy_textured', SCORES | TRAINING), ('R50_cnp_contrast_ms_1x', SCORES | TRAINING),
    ('sipmask_toy_textured', SCORES), ('fcos_r50_caffe_fpn_gn_1x', dict(list(SCORES.items())[:1]))])
def test_every_option_is_reached_from_the_command_line(name, options):
    """Keys and types as --cfg-options takes them, in configs of all heads."""
    cfg = load_config(f'configs/{name}.py', list(options.items()))
    for key, text in options.items():
        node = cfg
        for part in key.split('.'):
            node = node[part]
        assert node == parse_value(text), key


def test_each_loss_is_multiplied_by_its_weight():
    weights = dict(zip(LOSSES, (2.0, 0.5, 0.0, 3.0, 0.25)))
    plain, weighted = losses_of(), losses_of(loss_weights=weights)
    assert plain.keys() == weighted.keys()
    assert plain['loss_seg'] > 0
    for name, value in plain.items():
        assert weighted[name] == value * weights.get(name, 1.0), name


@pytest.mark.parametrize('captured', [False, True], ids=['plain', 'as in a CUDA graph'])
def test_dice_is_that_of_the_pixels_in_the_box(captured):
    """Logits 0 and ln 3, probabilities ½ and ¾, in two boxes of 4 × 2 and 2 × 2 pixels."""
    logits = torch.ones(1, 1, 6, 6), torch.tensor([[[0.0], [math.log(3)]]])  # map, coefficients
    boxes = torch.tensor([[[1.0, 1.0, 5.0, 3.0], [2.0, 2.0, 4.0, 4.0]]])
    masks = torch.zeros(1, 1, 6, 6)
    masks[..., :3] = 1  # 4 pixels of the first box, 2 of the second
    kept, slot_gt = torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 2, dtype=torch.long)

    def loss(dice_weight: float, quality: tuple[float, float]) -> float:
        weights = torch.tensor([quality])
        if captured:
            with capturing(lambda call, tensor: None):
                return float(box_mask_loss(*logits, boxes, kept, masks, slot_gt, weights, dice_weight))
        return float(box_mask_loss(*logits, boxes, kept, masks, slot_gt, weights, dice_weight))

    entropies = (math.log(2), (math.log(4 / 3) + math.log(4)) / 2)
    dices = (1 - (2 * 2 + 1) / (4 + 4 + 1), 1 - (2 * 1.5 + 1) / (3 + 2 + 1))
    assert loss(0.0, (1, 1)) == pytest.approx(sum(entropies) / 2, rel=1e-4)
    assert loss(3.0, (1, 1)) == pytest.approx((sum(entropies) + 3 * sum(dices)) / 2, rel=1e-4)
    assert loss(3.0, (0, 1)) == pytest.approx(entropies[1] + 3 * dices[1], rel=1e-3)  # weighted by the quality, too


def test_the_dice_term_is_added_to_the_mask_loss_alone():
    plain, dice = losses_of(), losses_of(dice_weight=1.0)
    assert [name for name in plain if plain[name] != dice[name]] == ['loss_seg']
    assert dice['loss_seg'] > plain['loss_seg']


def test_the_subpixel_convolution_adds_detail_at_stride_4():
    """A bias of k for the k-th sub-pixel adds 0, 1, 2, 3 to each 2 × 2 block of the map."""
    torch.manual_seed(0)
    head = build_memcnp(embed_dims=32, channels=32, mask_upsample='subpixel').eval().bbox_head
    feats = [torch.randn(1, 32, 16 // 2 ** level, 16 // 2 ** level) for level in range(4)]
    with torch.no_grad():
        head.mask_detail.weight.zero_()
        smooth = head(feats)
        head.mask_detail.bias.copy_(torch.arange(4.0).repeat(32))
        detailed = head(feats)
    assert smooth.coarse_mask.shape == (1, 32, 32, 32)
    assert smooth.mask.shape == (1, 32, 64, 64)
    difference = (detailed.coarse_mask - smooth.coarse_mask).detach()
    assert torch.allclose(difference, torch.tensor([[0.0, 1.0], [2.0, 3.0]]).repeat(16, 16).expand(1, 32, -1, -1),
                          atol=1e-5)


@pytest.mark.parametrize(('detail', 'filled'), [(0.0, True), (-2.0, False)])
def test_masks_in_testing_are_those_of_the_map_with_detail(detail, filled):
    """Map 1 + detail, coefficients 1: with a negative map its ReLU is 0, and a probability of ½ is background."""
    model = build_memcnp(embed_dims=32, channels=32, mask_upsample='subpixel', test_cfg=dict(score_thr=0.0)).eval()
    head = model.bbox_head
    with torch.no_grad():
        for layer, bias in ((head.track_fuse, 1.0), (head.mask_fuse, 1.0), (head.mask_detail, detail)):
            layer.weight.zero_()
            layer.bias.fill_(bias)
    inputs, clips = synthetic_clips(1, 1, (64, 96), num_classes=5, original=(64, 96))
    model(inputs, clips, mode='predict')
    found = clips[0][0].pred_track_instances
    areas = mask_area(found.masks)
    assert len(areas) > 0
    assert ((areas > 0) == filled).all()


def test_boxes_are_enlarged_at_each_side():
    boxes = torch.tensor([[[10.0, 20.0, 30.0, 60.0], [5.0, 5.0, 5.0, 5.0]]])
    assert enlarge_boxes(boxes, 0.25).tolist() == [[[5.0, 10.0, 35.0, 70.0], [5.0, 5.0, 5.0, 5.0]]]
    assert enlarge_boxes(boxes, 0.0) is boxes


@pytest.mark.parametrize('margin', [0.0, 0.25])
def test_masks_are_cropped_to_enlarged_boxes(margin):
    """Map 1, coefficients 1: a mask fills its crop, here within a frame that is much larger."""
    model = build_memcnp(embed_dims=32, channels=32, mask_margin=margin, test_cfg=dict(score_thr=0.0)).eval()
    head = model.bbox_head
    with torch.no_grad():
        for layer, bias in ((head.track_fuse, 1.0), (head.mask_fuse, 1.0)):
            layer.weight.zero_()
            layer.bias.fill_(bias)
        head.fcos_reg.weight.zero_()
        head.fcos_reg.bias[:4] = torch.tensor([16 / 256, 8 / 256, 16 / 256, 8 / 256]).logit()  # boxes of 32 × 16
    inputs, clips = synthetic_clips(1, 1, (256, 256), num_classes=5, original=(256, 256))
    model(inputs, clips, mode='predict')
    found = clips[0][0].pred_track_instances
    whole = (found.bboxes >= 16).all(dim=1) & (found.bboxes <= 240).all(dim=1)
    assert whole.any()
    expected = 32 * 16 * (1 + 2 * margin) ** 2
    assert all(abs(area - expected) <= 0.1 * expected
               for area, inside in zip(mask_area(found.masks), whole.tolist()) if inside)


def test_the_mask_loss_has_the_pixels_of_enlarged_boxes():
    plain, enlarged = losses_of(), losses_of(mask_margin=0.25)
    assert [name for name in plain if plain[name] != enlarged[name]] == ['loss_seg']


def test_scores_are_multiplied_by_the_mean_probability_of_the_foreground():
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.0]])
    masks = torch.zeros(1, 4, 2, 2)
    masks[0, 0, 0] = torch.tensor([0.6, 0.8])
    masks[0, 0, 1] = 0.5  # not above ½: background
    masks[0, 1] = 1.0
    masks[0, 2] = 0.4
    found = Detections(torch.arange(16.0).view(1, 4, 4), scores, torch.tensor([[3, 4, 5, 0]]),
                       torch.tensor([[7, 8, 9, 0]]), scores > 0)
    rescored, sorted_masks = rescore_by_masks(found, masks, 2.0)
    assert rescored.scores[0].tolist() == pytest.approx([0.8, 0.9 * 0.7 ** 2, 0, 0])
    assert rescored.valid[0].tolist() == [True, True, False, False]
    assert rescored.labels[0, :2].tolist() == [4, 3]
    assert rescored.index[0, :2].tolist() == [8, 7]
    assert torch.equal(rescored.bboxes[0, :2], found.bboxes[0, [1, 0]])
    assert torch.equal(sorted_masks[0, :2], masks[0, [1, 0]])


@pytest.mark.parametrize('exponent', [0.5, 1.0])
def test_detections_are_rescored_by_their_masks_on_request(exponent):
    """Map ln 3 / 32 in 32 channels, coefficients 1: the probability is ¾ everywhere."""
    scores, areas = [], []
    for test_cfg in (dict(score_thr=0.0), dict(score_thr=0.0, quality_exponent=exponent)):
        torch.manual_seed(0)
        model = build_memcnp(embed_dims=32, channels=32, test_cfg=test_cfg).eval()
        head = model.bbox_head
        with torch.no_grad():
            for layer, bias in ((head.track_fuse, 1.0), (head.mask_fuse, math.log(3) / 32)):
                layer.weight.zero_()
                layer.bias.fill_(bias)
        inputs, clips = synthetic_clips(1, 1, (64, 96), num_classes=5, original=(64, 96))
        model(inputs, clips, mode='predict')
        found = clips[0][0].pred_track_instances
        scores.append(found.scores)
        areas.append(mask_area(found.masks))
    assert (areas[0] > 0).all()
    assert torch.allclose(scores[1], scores[0] * 0.75 ** exponent)
    assert areas[0].tolist() == areas[1].tolist()


def test_the_subpixel_convolution_is_trained():
    torch.manual_seed(0)
    model = build_memcnp(embed_dims=32, channels=32, mask_upsample='subpixel').train()
    inputs, clips = synthetic_clips(2, 2, (64, 96), num_classes=5, original=(64, 96))
    losses = model(inputs, clips, mode='loss')
    losses['loss_seg'].backward()
    assert model.bbox_head.mask_detail.weight.grad.abs().max() > 0


@pytest.mark.parametrize(('options', 'message'), [
    (dict(mask_upsample='conv'), "mask_upsample='conv' is unknown; use one of"),
    (dict(mask_margin=-0.1), 'mask_margin must be a number of at least 0, not -0.1'),
    (dict(test_cfg=dict(quality_exponent=-1)), 'test_cfg quality_exponent must be a number of at least 0, not -1'),
    (dict(test_cfg=dict(score_thr='0.3')), "test_cfg score_thr must be a number from 0 to 1, not '0.3'"),
    (dict(test_cfg=dict(max_per_img=0)), 'test_cfg max_per_img must be an integer of at least 1, not 0'),
    (dict(loss_weights=dict(loss_mask=2.0)), "loss_weights has no key 'loss_mask'; use loss_bbox, loss_cls"),
    (dict(loss_weights=dict(loss_seg='x')), "loss_weights.loss_seg must be a number of at least 0, not 'x'"),
    (dict(loss_weights=[1]), r'loss_weights must be a dict with some of loss_bbox, .*, not \[1\]'),
    (dict(dice_weight=-1), 'dice_weight must be a number of at least 0, not -1'),
    (dict(track_jitter=None), 'track_jitter must be a number of at least 0, not None'),
    (dict(write_target='x'), "write_target='x' is unknown; use one of"),
    (dict(memory=dict(online_memory=0.3)), 'online_memory must be a dict with some of score_thr, momentum, not 0.3'),
    (dict(video_memory=0.3), 'video_memory must be a dict, not 0.3')])
def test_invalid_options_are_user_errors(options, message):
    with pytest.raises(UserError, match=message):
        build_memcnp(embed_dims=32, channels=32, **options)
