"""Closed forms of the uncertainty assigner: which levels detect an object, and how many of its locations."""
import pytest
import torch

from mmdet.errors import UserError
from mmdet.models.task_modules.cnp_assigners import Assignment, UncertaintyAssigner
from mmdet.models.task_modules.padded_targets import PaddedTargets
from mmdet.models.task_modules.points import Grid
from tests.helpers.models import build_memcnp

STRIDES = (8, 16, 32)
INPUT = (96, 96)


def assign(boxes: list, **options) -> tuple[Assignment, list[int]]:
    """Assign with equal uncertainties, one image of ``INPUT``; also return the number of locations of each level."""
    height, width = INPUT
    grid = Grid.of([torch.zeros(1, 1, height // stride, width // stride) for stride in STRIDES], STRIDES)
    count = len(boxes)
    # one more object, which is padding
    targets = PaddedTargets(torch.tensor([[*boxes, [0, 0, 0, 0]]], dtype=torch.float32),
                            torch.zeros(1, count + 1, dtype=torch.long), torch.arange(count + 1)[None],
                            torch.tensor([[True] * count + [False]]))
    sigmas = torch.full((1, len(grid.points), 4), 0.2)
    found = UncertaintyAssigner(**options)(grid.points, grid.level_sizes, sigmas, targets)
    return found, [h * w for h, w in grid.level_sizes]


def positives(found: Assignment, sizes: list[int], gt: int) -> list[int]:
    """Return the number of positives of an object on each level."""
    chosen = torch.zeros(sum(sizes), dtype=torch.long)
    chosen.index_add_(0, found.index[0], (found.positive[0] & (found.gt[0] == gt)).long())
    return [int(level.sum()) for level in chosen.split(sizes)]


SQUARE = [9.0, 9.0, 73.0, 73.0]  # 64 pixels: contains 8×8, 4×4 and 2×2 locations


@pytest.mark.parametrize(('ranges', 'expected'), [
    (None, [4, 4, 4]),
    ([(0, 32), (32, 64), (64, 1000)], [0, 4, 4]),  # both bounds are included
    ([(0, 32), (33, 60), (70, 1000)], [0, 4, 0]),  # within no range: the nearest
    ([(0, 10), (20, 30), (30, 40)], [0, 0, 4]),
    ([(100, 110), (120, 130), (140, float('inf'))], [4, 0, 0])])
def test_levels_detect_the_objects_of_their_sizes(ranges, expected):
    found, sizes = assign([SQUARE], scale_ranges=ranges)
    assert positives(found, sizes, 0) == expected


def test_the_size_is_the_root_of_the_area():
    found, sizes = assign([[0.0, 0.0, 96.0, 24.0]], scale_ranges=[(0, 47.9), (47.9, 48.1), (48.1, 1000)])
    assert [count > 0 for count in positives(found, sizes, 0)] == [False, True, False]


def test_other_levels_learn_that_the_object_is_background():
    published, sizes = assign([SQUARE])
    limited, _ = assign([SQUARE], scale_ranges=[(0, 40), (41, 1000), (2000, 3000)])
    fine, middle, coarse = (level[0] for level in limited.negative.split(sizes, dim=1))
    assert fine.all()
    assert coarse.all()
    assert torch.equal(middle, published.negative.split(sizes, dim=1)[1][0])
    assert not published.negative.split(sizes, dim=1)[0].all()  # its centre would be ignored


def test_objects_of_different_sizes_share_a_level_only_if_their_ranges_do():
    small = [80.0, 80.0, 96.0, 96.0]
    found, sizes = assign([SQUARE, small], scale_ranges=[(0, 20), (50, 100), (50, 100)])
    assert positives(found, sizes, 0) == [0, 4, 4]
    assert positives(found, sizes, 1)[0] == 4
    assert positives(found, sizes, 1)[1:] == [0, 0]


@pytest.mark.parametrize(('options', 'expected'), [
    (dict(top_k=4), [4, 4, 4]),
    (dict(top_k=1, max_top_k=64), [16, 4, 1]),  # a quarter of 64, 16 and 4 locations
    (dict(top_k=3, max_top_k=9), [9, 4, 3]),
    (dict(top_k=1, max_top_k=64, fraction=0.5), [32, 8, 2]),
    (dict(top_k=1, max_top_k=64, fraction=0.125), [8, 2, 1]),
    (dict(top_k=5), [5, 5, 4])])  # no more than lie in the box
def test_the_number_of_positives_grows_with_the_object(options, expected):
    found, sizes = assign([SQUARE], **options)
    assert positives(found, sizes, 0) == expected


def test_the_positives_of_an_object_are_those_of_highest_score():
    few, sizes = assign([SQUARE], top_k=1, max_top_k=16, fraction=1 / 16)
    many, _ = assign([SQUARE], top_k=4)
    assert positives(few, sizes, 0) == [4, 1, 1]  # a sixteenth of 4 locations is less than the minimum
    chosen = [set(found.index[0, found.positive[0]].tolist()) for found in (few, many)]
    assert chosen[0] < chosen[1]


def test_equal_bounds_are_the_constant_number():
    for name in ('index', 'gt', 'positive', 'negative'):
        first, second = (getattr(assign([SQUARE], top_k=4, max_top_k=most)[0], name) for most in (None, 4))
        assert torch.equal(first, second)


@pytest.mark.parametrize(('options', 'message'), [
    (dict(top_k=0), 'top_k must be an integer of at least 1, not 0'),
    (dict(top_k=2.5), 'top_k must be an integer of at least 1, not 2.5'),
    (dict(top_k=4, max_top_k=2), 'max_top_k=2 is less than top_k=4'),
    (dict(max_top_k='x'), "max_top_k must be an integer of at least 1, not 'x'"),
    (dict(max_top_k=8, fraction=0), 'fraction must be a number above 0, not 0'),
    (dict(max_top_k=8, fraction=1.5), 'fraction must be a number from 0 to 1, not 1.5'),
    (dict(scale_ranges=[(0, 8), (9, 4), (4, 5), (5, 6)]), r'the lower first, not \(9, 4\)'),
    (dict(scale_ranges=[8, 16]), r'scale_ranges must be two numbers \(least, most\), not 8'),
    (dict(scale_ranges=8), r'scale_ranges=8 is not a list of pairs \(min, max\)'),
    (dict(scale_ranges=[(0, 8), (8, 16)]), 'arguments for 2 instead of 4 levels, as the head has; set one range')])
def test_invalid_options_are_user_errors_when_the_model_is_built(options, message):
    with pytest.raises(UserError, match=message):
        build_memcnp(embed_dims=32, channels=32, assigner=dict(type='UncertaintyAssigner', **options))
