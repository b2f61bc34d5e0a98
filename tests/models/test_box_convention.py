"""Both box conventions: results that depend on whether x2 and y2 are inclusive, and results that do not."""
import math

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_iou

from mmdet.models.task_modules.box_convention import BoxConvention, DeltaCoder

BOXES = torch.tensor([[10.0, 20, 30, 60], [0, 0, 9, 9], [5.5, 7.25, 5.5, 8.0]])


def test_iou_of_touching_boxes():
    left, right = torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([[4.0, 0, 8, 4]])
    assert BoxConvention().iou(left, right).item() == 0
    assert BoxConvention(legacy=True).iou(left, right).item() == pytest.approx(5 / 45)
    with_end = BOXES + torch.tensor([0, 0, 1, 1])  # x2 and y2 of legacy boxes are inclusive
    torch.testing.assert_close(BoxConvention(legacy=True).iou(BOXES, BOXES), box_iou(with_end, with_end))


@pytest.mark.parametrize('legacy, kept', [(False, [0, 1]), (True, [0])])
def test_nms_includes_x2_and_y2_of_legacy_boxes(legacy, kept):
    boxes = torch.tensor([[0.0, 0, 9, 9], [3.1, 0, 12.1, 9]])  # IoU .488; .527 with the last pixels
    keep = BoxConvention(legacy).nms(boxes, torch.tensor([0.9, 0.8]), torch.zeros(2, dtype=torch.long), 0.5)
    assert keep.tolist() == kept


def test_nms_keeps_groups_apart_and_sorts():
    boxes = torch.tensor([[0.0, 0, 9, 9]]).repeat(3, 1)
    keep = BoxConvention().nms(boxes, torch.tensor([0.2, 0.9, 0.5]), torch.tensor([7, 7, 999]), 0.5)
    assert keep.tolist() == [1, 2]


@pytest.mark.parametrize('legacy', [False, True])
def test_encode_decode_identity(legacy):
    coder = DeltaCoder((0.1, 0.1, 0.2, 0.2), BoxConvention(legacy))
    boxes = torch.tensor([[10.0, 20, 30, 60], [0, 0, 9, 9], [100, 50, 140, 52]])
    targets = torch.tensor([[12.0, 18, 40, 50], [1, 1, 5, 30], [90, 40, 150, 60]])
    decoded = coder.decode(boxes, coder.encode(boxes, targets))
    assert decoded.shape == (3, 1, 4)
    torch.testing.assert_close(decoded[:, 0], targets, rtol=0, atol=1e-4)


def test_legacy_decode_is_the_published_formula():
    coder = DeltaCoder((1.0, 1.0, 1.0, 1.0), BoxConvention(legacy=True))
    dx, dy, dw, dh = 0.3, -0.2, 0.5, -9.0  # the last is below ln(16/1000) and clamped to it
    x1, y1, x2, y2 = 10.0, 20.0, 30.0, 60.0
    width, height = x2 - x1 + 1, y2 - y1 + 1
    centre_x, centre_y = (x1 + x2) / 2 + dx * width, (y1 + y2) / 2 + dy * height
    width, height = width * math.exp(dw), height * 16 / 1000
    expected = [centre_x - width / 2 + 0.5, centre_y - height / 2 + 0.5,
                centre_x + width / 2 - 0.5, centre_y + height / 2 - 0.5]
    decoded = coder.decode(torch.tensor([[x1, y1, x2, y2]]), torch.tensor([[dx, dy, dw, dh]]))
    assert decoded.flatten().tolist() == pytest.approx(expected, abs=1e-4)


def test_decode_equals_torchvisions():
    torch.manual_seed(0)
    stds, boxes, deltas = (0.1, 0.1, 0.2, 0.2), 100 * torch.rand(50, 4), 8 * torch.randn(50, 12)
    boxes[:, 2:] += boxes[:, :2]
    deltas[:, 2::4], deltas[:, 3::4] = deltas[:, 2::4].abs(), deltas[:, 3::4].abs()  # ours also limits shrinking
    theirs = BoxCoder(tuple(1 / std for std in stds), DeltaCoder.max_log_ratio).decode_single(deltas, boxes)
    assert torch.equal(DeltaCoder(stds, BoxConvention()).decode(boxes, deltas), theirs.view(50, 3, 4))


def test_decode_of_several_classes():
    coder = DeltaCoder((0.1, 0.1, 0.2, 0.2), BoxConvention())
    deltas = torch.zeros(2, 12)
    deltas[:, 4] = 10.0  # class 1: one width to the right
    decoded = coder.decode(BOXES[:2], deltas)
    torch.testing.assert_close(decoded[:, 0], BOXES[:2])
    torch.testing.assert_close(decoded[:, 1], BOXES[:2] + torch.tensor([[20.0, 0, 20, 0], [9, 0, 9, 0]]))


@pytest.mark.parametrize('legacy, last', [(False, 0), (True, 1)])
def test_clip_to_each_image(legacy, last):
    boxes = torch.tensor([-5.0, -5, 500, 500]).expand(2, 3, 4)
    clipped = BoxConvention(legacy).clip(boxes, torch.tensor([[40.0, 60], [10, 20]]))
    assert clipped[0, 2].tolist() == [0, 0, 60 - last, 40 - last]
    assert clipped[1, 0].tolist() == [0, 0, 20 - last, 10 - last]


def test_annotations_include_x2_and_y2():
    boxes = torch.tensor([[2.0, 3, 2, 9], [4, 4, 8, 8]])  # twice as large as in the file
    assert BoxConvention(legacy=True).from_annotation(boxes, 2.0).tolist() == [[2, 3, 3, 9], [4, 4, 8, 8]]
    assert BoxConvention().from_annotation(boxes, 2.0).tolist() == [[2, 3, 4, 11], [4, 4, 10, 10]]
