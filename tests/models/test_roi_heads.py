"""Components of the RoI heads: levels and alignment of RoIs, mask pasting, targets, matching loss, calibration."""
import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmdet.models.dense_heads import RPNHead
from mmdet.models.roi_heads import CalibratedTrackHead, FCNMaskHead, Shared2FCBBoxHead, TrackHead
from mmdet.models.roi_heads.mask_paste import paste_masks
from mmdet.models.roi_heads.roi_extractor import RoIExtractor
from mmdet.models.roi_heads.roi_targets import match_targets, roi_targets
from mmdet.models.task_modules.box_assignment import MaxIoUAssigner, RandomBoxSampler
from mmdet.models.task_modules.box_convention import BoxConvention
from mmdet.ops.correlation import spatial_correlation_sample


def test_roi_levels():
    sides = torch.tensor([0.0, 10, 111.9, 112.1, 223, 225, 447, 449, 5000])
    boxes = torch.stack([torch.zeros(9), torch.zeros(9), sides, sides], dim=1)
    assert RoIExtractor().levels(boxes).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize('legacy', [False, True])
def test_roi_features_of_a_ramp(legacy):
    """On a map whose value is its cell's x, a bin's value is its centre's x; each RoI reads its own image and level."""
    extractor = RoIExtractor(strides=[4, 8], legacy_boxes=legacy)
    ramps = [torch.arange(float(512 // stride)).expand(2, 1, 512 // stride, -1).clone() for stride in (4, 8)]
    for level, ramp in enumerate(ramps):
        ramp[1] += 1000 * (level + 1)
    boxes = torch.tensor([[40.0, 40, 240, 240], [16, 16, 48, 48]])
    feats = extractor(ramps, torch.tensor([1, 0]), boxes, 2)
    assert feats.shape == (2, 1, 2, 2)
    end, shift = (1, 0) if legacy else (0, 0.5)
    left, right = 2000 + (40 + (200 + end) * torch.tensor([0.25, 0.75])) / 8 - shift
    torch.testing.assert_close(feats[0, 0], torch.stack([left, right]).expand(2, 2), rtol=0, atol=1e-3)
    expected = (16 + (32 + end) * torch.tensor([0.25, 0.75])) / 4 - shift
    torch.testing.assert_close(feats[1, 0], expected.expand(2, 2), rtol=0, atol=1e-3)


def test_legacy_paste_is_opencv():
    rng = np.random.default_rng(0)
    probs = cv2.GaussianBlur(rng.random((28, 28, 6), np.float32), (5, 5), 0)
    probs = torch.from_numpy(probs.transpose(2, 0, 1).copy())
    boxes = torch.tensor([[3.7, 4.2, 40.9, 60.1], [0, 0, 119, 79], [50.2, 10.8, 50.9, 70], [10, 20, 11, 21],
                          [60.5, 30.5, 90.5, 45.5], [5, 5, 4.5, 30]])
    pasted = paste_masks(probs, boxes, 80, 120, BoxConvention(legacy=True)).transpose(1, 2).numpy()
    for prob, box, mask in zip(probs.numpy(), boxes.numpy().astype(int), pasted):
        x1, y1, x2, y2 = box
        width, height = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
        expected = np.zeros((80, 120), bool)
        expected[y1:y1 + height, x1:x1 + width] = cv2.resize(prob, (width, height)) > 0.5
        assert (mask != expected).sum() <= 1


def test_pasted_masks_are_cropped_to_the_image_and_the_box():
    boxes = torch.tensor([[-4.0, -4, 4, 4], [2.5, 1.5, 6.4, 3.5]])
    pasted = paste_masks(torch.ones(2, 28, 28), boxes, 8, 10, BoxConvention()).transpose(1, 2)
    expected = torch.zeros(2, 8, 10, dtype=torch.bool)
    expected[0, :4, :4] = True
    expected[1, 1:3, 2:6] = True  # pixels whose centre is in the box
    assert torch.equal(pasted, expected)


def test_mask_loss_of_the_right_mask():
    """Logits drawn from the object's own mask give a small loss, from its negative a large one."""
    head = FCNMaskHead(num_classes=3, in_channels=8)
    gt_masks = torch.zeros(2, 64, 64, dtype=torch.uint8)
    gt_masks[1, 20:40, 10:30] = 1
    boxes = torch.tensor([[10.0, 20, 50, 60]])
    target = torch.zeros(28, 28)
    target[:14, :14] = 1  # the mask fills the box's upper left quarter
    logits = torch.zeros(1, 4, 28, 28)
    logits[0, 3] = 40 * target - 20
    right = head.loss(logits, torch.tensor([2]), boxes, gt_masks, torch.tensor([1]))
    wrong = head.loss(-logits, torch.tensor([2]), boxes, gt_masks, torch.tensor([1]))
    assert right < 1e-4 and wrong > 15


def test_roi_targets():
    gts = [torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]]), torch.zeros(0, 4)]
    proposals = torch.tensor([[[20.0, 0, 30, 9], [50, 50, 60, 60], [0, 0, 10, 10]]]).repeat(2, 1, 1)
    valid = torch.tensor([[True, True, False], [True, False, False]])
    rois = roi_targets(proposals, valid, gts, [torch.tensor([4, 7]), torch.zeros(0, dtype=torch.long)],
                       MaxIoUAssigner(0.5, 0.5, 0.5), RandomBoxSampler(num=16, pos_fraction=0.5))
    first = rois[rois.image == 0]
    found = sorted(zip(first.labels.tolist(), first.bboxes.tolist(), first.gt_index.clamp(min=-1).tolist()))
    assert found == [(-1, [50, 50, 60, 60], -1), (4, [0, 0, 10, 10], 0), (7, [20, 0, 30, 9], 1),
                     (7, [20, 0, 30, 10], 1)]
    second = rois[rois.image == 1]
    assert second.labels.tolist() == [-1] and second.bboxes.tolist() == [[20, 0, 30, 9]]


def test_match_targets():
    ids = [torch.tensor([5, 9]), torch.tensor([5, 1])]
    ref_ids = [torch.tensor([9]), torch.tensor([2, 5])]
    ref_image, targets = match_targets(ids, ref_ids)
    assert ref_image.tolist() == [0, 1, 1]
    assert targets.tolist() == [0, 1, 3, 0]  # image 0's 5 is not image 1's
    empty = torch.zeros(0, dtype=torch.long)
    assert match_targets(ids, [empty, empty])[1].tolist() == [0, 0, 0, 0]


def test_match_loss_by_image():
    """The mean over images of each image's mean cross entropy over [0, dot products with its own references]."""
    torch.manual_seed(0)
    head = TrackHead(in_channels=4, fc_channels=8)
    embeddings, references = torch.randn(3, 8), torch.randn(4, 8)
    image, ref_image = torch.tensor([0, 0, 2]), torch.tensor([0, 0, 1, 2])
    targets = torch.tensor([2, 0, 4])
    losses = head.loss(embeddings, image, targets, references, ref_image, num_images=3)
    dots = embeddings @ references.T
    first = F.cross_entropy(torch.cat([torch.zeros(2, 1), dots[:2, :2]], 1), torch.tensor([2, 0]))
    last = F.cross_entropy(torch.cat([torch.zeros(1, 1), dots[2:, 3:]], 1), torch.tensor([1]))
    assert float(losses['loss_match']) == pytest.approx(float((first + last) / 3), rel=1e-5)
    perfect = head.loss(references * 100, ref_image, torch.arange(4) + 1, references * 100, ref_image, num_images=3)
    assert float(perfect['match_acc']) == pytest.approx(100)


@pytest.fixture
def calibration():
    torch.manual_seed(0)
    head = CalibratedTrackHead(in_channels=8, fc_channels=16, patch_size=4)
    torch.nn.init.zeros_(head.conv_offset.weight)
    torch.nn.init.zeros_(head.conv_offset.bias)
    return head


def test_calibration_parameter_names():
    shapes = {name: tuple(value.shape) for name, value in CalibratedTrackHead().state_dict().items()}
    assert shapes == {
        'fcs.0.weight': (1024, 12544), 'fcs.0.bias': (1024,), 'fcs.1.weight': (1024, 1024), 'fcs.1.bias': (1024,),
        **{f'offset_convs.{i}.conv.weight': (256, 256, 3, 3) for i in range(3)},
        **{f'offset_convs.{i}.conv.bias': (256,) for i in range(3)},
        'conv_offset.weight': (18, 256, 3, 3), 'conv_offset.bias': (18,),
        'dconv_featureflow.weight': (256, 256, 3, 3)}


def test_calibration_without_offsets_is_a_convolution(calibration):
    maps = [torch.randn(2, 8, 6, 10), torch.randn(2, 8, 3, 5)]
    references = [torch.randn_like(level) for level in maps]
    for current, reference, result in zip(maps, references, calibration.calibrate(maps, references)):
        expected = current + F.conv2d(reference, calibration.dconv_featureflow.weight, padding=1)
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def test_calibration_undoes_a_shift(calibration):
    """The reference is the current map moved two cells right; offsets of two cells in x bring it back."""
    with torch.no_grad():
        calibration.dconv_featureflow.weight.zero_()
        calibration.dconv_featureflow.weight[range(8), range(8), 1, 1] = 1
        calibration.conv_offset.bias[1::2] = 2  # dy, dx of each tap
    current = torch.randn(1, 8, 6, 10)
    reference = current.roll(2, dims=3)
    result, = calibration.calibrate([current], [reference])
    torch.testing.assert_close(result[..., :8], 2 * current[..., :8], rtol=1e-5, atol=1e-5)


def test_calibration_offsets_depend_on_the_correlation(calibration):
    """Offsets come from the correlation over channels: recomputed here from its definition."""
    torch.nn.init.normal_(calibration.conv_offset.weight, std=0.1)
    current, reference = torch.randn(1, 8, 6, 10), torch.randn(1, 8, 6, 10)
    correlation = spatial_correlation_sample(current, reference, patch_size=4, dilation_patch=2)
    x = F.leaky_relu(correlation.view(1, 16, 6, 10) / 8, 0.1)
    for conv in calibration.offset_convs:
        x = F.conv2d(x, conv.conv.weight, conv.conv.bias, padding=1).relu()
    offset = F.conv2d(x, calibration.conv_offset.weight, calibration.conv_offset.bias, padding=1)
    expected = calibration.dconv_featureflow(reference, offset) + current
    result, = calibration.calibrate([current], [reference])
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize('detach_ref', [False, True])
def test_detached_reference(calibration, detach_ref):
    calibration.detach_ref = detach_ref
    current, reference = torch.randn(1, 8, 6, 10, requires_grad=True), torch.randn(1, 8, 6, 10, requires_grad=True)
    calibration.calibrate([current], [reference])[0].sum().backward()
    assert current.grad is not None
    assert (reference.grad is None) == detach_ref


def test_the_former_name_of_nms_thr_is_accepted():
    """Configs published before the heads agreed on one key."""
    assert RPNHead(iou_threshold=0.6).nms_thr == RPNHead(nms_thr=0.6).nms_thr == 0.6
    assert Shared2FCBBoxHead(3, iou_threshold=0.6).nms_thr == Shared2FCBBoxHead(3, nms_thr=0.6).nms_thr == 0.6
