"""Label assignment of FCOS in closed form: borders, ranges, centre sampling, overlapping objects, padding."""
import math

import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.models.task_modules.fcos_targets import default_regress_ranges, fcos_targets
from mmdet.models.task_modules.padded_targets import PaddedTargets
from mmdet.models.task_modules.points import pyramid_points

STRIDES = (8, 16)
SIZES = [(8, 8), (4, 4)]  # 64×64 pixels
EVERYTHING = [(-1, math.inf)] * 2


def padded(*images: list) -> PaddedTargets:
    return PaddedTargets.from_instances([
        InstanceData(bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                     labels=torch.zeros(len(boxes), dtype=torch.long),
                     instances_id=torch.arange(len(boxes))) for boxes in images], with_masks=False)


def assign(boxes: list, ranges=EVERYTHING, radius=None):
    """Object of each location of the two levels, −1 where there is none, and the centerness."""
    found = fcos_targets(pyramid_points(SIZES, STRIDES), SIZES, STRIDES, ranges, padded(boxes), radius)
    gt = torch.where(found.positive, found.gt, -1)[0]
    return gt[:64].view(8, 8), gt[64:].view(4, 4), found.centerness[0]


@pytest.mark.parametrize(('num_levels', 'expected'), [
    (5, [(-1, 64), (64, 128), (128, 256), (256, 512), (512, math.inf)]),
    (4, [(-1, 64), (64, 128), (128, 256), (256, math.inf)])])
def test_default_ranges(num_levels, expected):
    assert default_regress_ranges(num_levels) == expected


def test_points_on_the_border_are_outside():
    fine, coarse, _ = assign([[12, 12, 29, 28]])  # fine points at 4, 12, 20, 28, …; coarse ones at 8, 24, …
    assert fine.eq(0).nonzero().tolist() == [[2, 2], [2, 3]]  # y = 20; x = 20, 28
    assert coarse.eq(0).nonzero().tolist() == [[1, 1]]


def test_ranges_include_both_ends():
    # from the point (20, 20) the farthest side is 20 px away, from (28, 20) and the others 24 or more
    box = [[8, 0, 40, 40]]
    fine, coarse, _ = assign(box, [(-1, 20), (20, math.inf)])
    assert fine.eq(0).nonzero().tolist() == [[2, 2], [2, 3]]
    assert coarse.eq(0).any()
    assert not assign(box, [(-1, 19.9), (1000, math.inf)])[0].eq(0).any()


def test_centre_sampling_is_strict_and_scales_with_the_stride():
    # centre (32, 32): fine points within 12 px are 28 and 36; coarse ones within 24 px 24 and 40 (8 is on the border)
    fine, coarse, _ = assign([[0, 0, 64, 64]], radius=1.5)
    assert fine.eq(0).nonzero().tolist() == [[y, x] for y in (3, 4) for x in (3, 4)]
    assert coarse.eq(0).nonzero().tolist() == [[y, x] for y in (1, 2) for x in (1, 2)]


def test_locations_are_assigned_to_the_smallest_object_or_the_first_on_ties():
    fine, _, _ = assign([[0, 0, 64, 64], [16, 16, 40, 40], [16, 16, 40, 40]])
    assert fine[3, 3] == 1
    assert fine[0, 0] == 0
    assert not fine.eq(2).any()


def test_centerness():
    _, _, centerness = assign([[0, 0, 40, 40]])
    points = pyramid_points(SIZES, STRIDES)
    at = {tuple(point): value for point, value in zip(points.tolist(), centerness.tolist())}
    assert at[20.0, 20.0] == 1
    assert at[12.0, 20.0] == pytest.approx(math.sqrt(12 / 28))
    assert at[4.0, 12.0] == pytest.approx(math.sqrt(4 / 36 * 12 / 28))
    assert at[60.0, 60.0] == 0


def test_padded_objects_and_images_without_objects():
    targets = padded([[0, 0, 40, 40], [0, 0, 64, 64]], [], [[0, 0, 64, 64]])
    found = fcos_targets(pyramid_points(SIZES, STRIDES), SIZES, STRIDES, EVERYTHING, targets, 1.5)
    assert found.positive.any(dim=1).tolist() == [True, False, True]
    assert found.gt[2][found.positive[2]].eq(0).all()
    assert found.centerness[1].eq(0).all()
