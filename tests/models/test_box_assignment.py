"""Assignment of boxes to objects by overlap, and the random minibatch."""
import pytest
import torch

from mmdet.models.task_modules.box_assignment import IGNORED, NEGATIVE, MaxIoUAssigner, RandomBoxSampler

OBJECTS = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])


def test_thresholds():
    boxes = torch.tensor([[0.0, 0, 10, 9], [0, 0, 10, 5], [0, 0, 10, 2], [20, 0, 30, 10]])  # IoU .9, .5, .2, 1
    assigner = MaxIoUAssigner(pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3)
    assert assigner.assign(boxes, OBJECTS).tolist() == [0, IGNORED, NEGATIVE, 1]


def test_boxes_of_highest_iou_are_assigned_to_every_object():
    boxes = torch.tensor([[0.0, 0, 10, 4], [0, 6, 10, 10], [0, 0, 10, 1], [20, 0, 30, 2]])  # .4, .4, .1; .2
    assigner = MaxIoUAssigner(pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3)
    assert assigner.assign(boxes, OBJECTS).tolist() == [0, 0, NEGATIVE, NEGATIVE]  # the second's best is below .3


def test_a_box_of_highest_iou_for_two_objects_is_assigned_to_the_last():
    same = OBJECTS[:1].repeat(2, 1)
    assigner = MaxIoUAssigner(pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3)
    assert assigner.assign(OBJECTS[:1], same).tolist() == [1]


def test_no_object_and_no_box():
    assigner = MaxIoUAssigner(pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3)
    assert assigner.assign(OBJECTS, OBJECTS[:0]).tolist() == [NEGATIVE, NEGATIVE]
    assert assigner.assign(OBJECTS[:0], OBJECTS).tolist() == []


def test_legacy_overlap_counts_pixels():
    boxes = torch.tensor([[3.1, 0, 12.1, 9]])
    gts = torch.tensor([[0.0, 0, 9, 9]])
    assert MaxIoUAssigner(0.5, 0.5, 0.5).assign(boxes, gts).tolist() == [NEGATIVE]
    assert MaxIoUAssigner(0.5, 0.5, 0.5, legacy_boxes=True).assign(boxes, gts).tolist() == [0]


@pytest.mark.parametrize('num_pos, num_neg, expected_pos, expected_neg', [
    (30, 100, 4, 12), (2, 100, 2, 14), (0, 100, 0, 16), (30, 3, 4, 3), (0, 0, 0, 0)])
def test_sampler_counts(num_pos, num_neg, expected_pos, expected_neg):
    torch.manual_seed(0)
    assigned = torch.cat([torch.arange(num_pos) % 5, torch.full((num_neg,), NEGATIVE), torch.full((50,), IGNORED)])
    assigned = assigned[torch.randperm(len(assigned))]
    index, valid = RandomBoxSampler(num=16, pos_fraction=0.25).sample(assigned)
    drawn = assigned[index[valid]]
    assert len(index[valid].unique()) == len(drawn)
    assert (drawn >= 0).sum() == expected_pos
    assert (drawn == NEGATIVE).sum() == expected_neg
    assert len(drawn) == expected_pos + expected_neg
    assert (drawn[:expected_pos] >= 0).all()


def test_sampler_samples_every_box_at_some_time():
    torch.manual_seed(0)
    assigned = torch.tensor([0, 1, 2, 3] + [NEGATIVE] * 12)
    sampler = RandomBoxSampler(num=8, pos_fraction=0.5)
    counts = torch.zeros(16)
    for _ in range(400):
        index, valid = sampler.sample(assigned)
        counts[index[valid]] += 1
    assert counts[:4].tolist() == [400] * 4  # all positives fit
    assert (counts[4:] / 400 - 4 / 12).abs().max() < 0.1
