"""Losses at sampled points, and the assignment of queries to the objects of a clip: closed forms, edges."""
import math

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData

from mmdet.models.losses.point_sampled import (
    pairwise_bce,
    pairwise_dice,
    point_bce,
    point_dice,
    sample_points,
    sample_points_by_index,
    uncertain_points,
)
from mmdet.models.task_modules.hungarian import ClipTargets, HungarianClipMatcher
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from tests.helpers.golden import clip_of


def test_points_are_interpolated_between_pixel_centres():
    maps = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
    points = torch.tensor([[[0.25, 0.25], [0.75, 0.25], [0.5, 0.5], [0.25, 0.5], [0.0, 0.0]]])
    torch.testing.assert_close(sample_points(maps, points), torch.tensor([[0.0, 1.0, 1.5, 1.0, 0.0]]))
    corner = sample_points(torch.full((1, 2, 2), 4.0), torch.tensor([[[0.0, 0.0]]]))
    torch.testing.assert_close(corner, torch.ones(1, 1))  # three of its four pixels lie outside and count as 0


def test_shared_points_equal_the_same_points_for_each_map():
    maps, points = torch.randn(3, 5, 7), torch.rand(1, 11, 2)
    torch.testing.assert_close(sample_points(maps, points), sample_points(maps, points.expand(3, -1, -1).contiguous()))


@pytest.mark.parametrize('shared', [True, False])
def test_sampling_by_index_is_the_same_and_so_is_its_gradient(shared):
    maps = torch.randn(3, 5, 7, dtype=torch.float64, requires_grad=True)
    points = torch.rand(1 if shared else 3, 40, 2, dtype=torch.float64)
    points[:, :4] = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    found, expected = sample_points_by_index(maps, points), sample_points(maps, points)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(found)
    torch.testing.assert_close(*(torch.autograd.grad((value * weight).sum(), maps)[0] for value in (found, expected)))


def test_most_points_are_where_the_absolute_logit_is_small():
    """A ramp from −10 to 10 along x: its zero is at x = 0.5."""
    torch.manual_seed(0)
    logits = torch.linspace(-10, 10, 64).expand(2, 64, 64)
    points = uncertain_points(logits, 400)
    assert points.shape == (2, 400, 2) and points.min() >= 0 and points.max() < 1
    kept, uniform = points[:, :300], (points[:, 300:, 0] - 0.5).abs()
    inside = ((kept - 0.5).abs() < 0.49).all(-1)  # at the border logits fade to the 0 outside
    assert (kept[..., 0] - 0.5).abs()[inside].max() < 0.15  # of 1,200 candidates the nearest quarter: ± 1/8, and chance
    assert uniform.mean() == pytest.approx(0.25, abs=0.04)


@pytest.mark.parametrize('num_points, important', [(1, 0), (2, 1), (4, 3)])
def test_number_of_sampled_points(num_points, important):
    shapes = []

    def rand(*shape, device):
        shapes.append(shape)
        return torch.rand(shape, device=device)

    assert uncertain_points(torch.randn(3, 4, 4), num_points, rand).shape == (3, num_points, 2)
    assert shapes == [(3, 3 * num_points, 2), (3, num_points - important, 2)]


def test_losses_at_points():
    logits, targets = torch.zeros(1, 4), torch.tensor([[1.0, 1, 0, 0]])
    assert float(point_bce(logits, targets)) == pytest.approx(math.log(2))
    assert float(point_dice(logits, targets)) == pytest.approx(1 - (2 * 1 + 1) / (2 + 2 + 1))
    perfect = torch.tensor([[50.0, 50, -50, -50]])
    assert float(point_bce(perfect, targets)) == pytest.approx(0, abs=1e-6)
    assert float(point_dice(perfect, targets)) == pytest.approx(0, abs=1e-6)


def test_pairwise_losses_are_the_losses_of_each_pair():
    torch.manual_seed(0)
    logits, targets = torch.randn(5, 9), torch.rand(3, 9)
    for pairwise, single in ((pairwise_bce, point_bce), (pairwise_dice, point_dice)):
        expected = torch.stack([torch.cat([single(logit[None], target[None]) for target in targets])
                                for logit in logits])
        torch.testing.assert_close(pairwise(logits, targets), expected)


def square(size: int, row: int, column: int) -> torch.Tensor:
    mask = torch.zeros(16, 16)
    mask[row:row + size, column:column + size] = 1
    return mask


def targets_of(masks: list[list[torch.Tensor]], labels: list[int]) -> ClipTargets:
    """Masks of each object in each frame."""
    stacked = torch.stack([torch.stack(frames) for frames in masks])
    first = stacked.flatten(2).any(2).int().argmax(1)
    return ClipTargets(torch.tensor(labels), stacked, tuple(first.tolist()))


def outputs_of(queries: list[tuple[int, list[torch.Tensor]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (T, Q, 4) of 3 classes and (T, Q, 16, 16) of queries that are sure of a label and of masks."""
    classes = torch.stack([8.0 * F.one_hot(torch.tensor(label), 4) for label, _ in queries])
    masks = torch.stack([torch.stack(frames) for _, frames in queries], dim=1)
    return classes.expand(len(masks), -1, -1), 20 * masks - 10


A, B, C, NONE = square(6, 0, 0), square(6, 8, 8), square(5, 1, 9), torch.zeros(16, 16)


def test_an_object_is_matched_in_the_first_frame_in_which_it_is_visible():
    """Query 0 fits the object in frame 0, query 1 in frame 1: frame 0 decides, though the object moves to B."""
    classes, masks = outputs_of([(1, [A, NONE]), (1, [NONE, B])])
    queries, objects = HungarianClipMatcher(num_points=500).match(classes, masks, targets_of([[A, B]], [1]))
    assert (queries.tolist(), objects.tolist()) == ([0], [0])


def test_a_later_object_is_not_matched_with_a_matched_query():
    """Query 0 has the lowest cost for both objects; it is matched in frame 0, the later object with another query."""
    classes, masks = outputs_of([(1, [A, A]), (0, [C, C]), (2, [B, B])])
    queries, objects = HungarianClipMatcher(num_points=500).match(
        classes, masks, targets_of([[NONE, A], [A, NONE]], [2, 1]))
    assert objects.tolist() == [1, 0] and queries[0] == 0 and queries[1] != 0


def test_the_sum_of_costs_is_minimal():
    """Query 1 has the lowest cost for both objects; it is matched where the sum of costs is minimal."""
    classes, masks = outputs_of([(0, [A]), (1, [A])])
    queries, objects = HungarianClipMatcher(num_points=500).match(classes, masks, targets_of([[A], [A]], [1, 0]))
    assert dict(zip(objects.tolist(), queries.tolist())) == {0: 1, 1: 0}


def test_more_objects_than_queries():
    classes, masks = outputs_of([(0, [A, A])])
    queries, objects = HungarianClipMatcher(num_points=100).match(
        classes, masks, targets_of([[A, A], [B, B], [NONE, A]], [0, 0, 0]))
    assert (queries.tolist(), objects.tolist()) == ([0], [0])


def test_without_objects_no_points_are_sampled():
    def rand(*shape, device):
        raise AssertionError('nothing is to be drawn')

    classes, masks = outputs_of([(0, [A])])
    empty = ClipTargets(torch.zeros(0, dtype=torch.long), torch.zeros(0, 1, 16, 16), ())
    queries, objects = HungarianClipMatcher().match(classes, masks, empty, rand)
    assert len(queries) == len(objects) == 0


def test_non_finite_outputs_are_matched():
    """The loss must report non-finite outputs, not the solver."""
    classes, masks = outputs_of([(0, [A]), (1, [B])])
    queries, _ = HungarianClipMatcher(num_points=10).match(classes, masks * math.nan, targets_of([[A]], [0]))
    assert len(queries) == 1


def gt_frame(ids: list[int], masks: list[torch.Tensor], labels: list[int]) -> DetDataSample:
    stacked = torch.stack(masks) if masks else torch.zeros(0, 16, 16)
    return DetDataSample(gt_instances=InstanceData(
        instances_id=torch.tensor(ids, dtype=torch.long), labels=torch.tensor(labels, dtype=torch.long),
        masks=stacked.to(torch.uint8), bboxes=torch.zeros(len(ids), 4)))


def test_targets_of_a_clip():
    """Object 7 leaves, 3 comes later, 9 never has a pixel; rows change their order from frame to frame."""
    clip = clip_of([gt_frame([7, 9], [A, NONE], [2, 0]), gt_frame([3, 7], [C, B], [1, 2]), gt_frame([3], [A], [1])])
    targets = ClipTargets.of(clip, (16, 16), torch.device('cpu'))
    assert targets.labels.tolist() == [2, 1] and targets.first_frame == (0, 1)
    expected = torch.stack([torch.stack([A, B, NONE]), torch.stack([NONE, C, A])])
    assert torch.equal(targets.masks, expected)
    empty = ClipTargets.of(clip_of([gt_frame([], [], [])] * 2), (16, 16), torch.device('cpu'))
    assert empty.labels.shape == (0,) and empty.masks.shape == (0, 2, 16, 16)


@pytest.fixture
def criterion():
    return MODELS.build(dict(type='QueryMaskCriterion', num_points=300))


def test_a_clip_without_objects_gives_a_class_loss_only(criterion):
    classes = torch.zeros(1, 2, 5, 4, requires_grad=True)
    masks = torch.randn(1, 2, 5, 16, 16, requires_grad=True)
    empty = ClipTargets(torch.zeros(0, dtype=torch.long), torch.zeros(0, 2, 16, 16), ())
    losses = criterion([(classes, masks)], [empty])
    assert float(losses['loss_mask'].detach()) == float(losses['loss_dice'].detach()) == 0
    assert float(losses['loss_ce'].detach()) == pytest.approx(2 * math.log(4))
    sum(losses.values()).backward()
    assert not masks.grad.any() and classes.grad.any()


def test_perfect_predictions_cost_nothing(criterion):
    """The object is matched in frame 1 and not visible in frame 0, where its query's mask must be empty."""
    classes, masks = outputs_of([(1, [NONE, A]), (3, [NONE, NONE])])
    losses = criterion([(5 * classes[None], masks[None])], [targets_of([[NONE, A]], [1])])
    assert float(losses['loss_ce']) == pytest.approx(0, abs=1e-4)
    # points within a pixel of the edge are between the logits of both sides
    assert float(losses['loss_mask']) < 0.5 * float(criterion([(classes[None], -masks[None])],
                                                              [targets_of([[NONE, A]], [1])])['loss_mask'])


def test_class_weights(criterion):
    """Two queries, one matched: mean of both cross-entropies with weights 1 and 0.1, in both frames."""
    classes, masks = torch.zeros(1, 2, 2, 4), outputs_of([(1, [A, A]), (1, [B, B])])[1][None]
    classes[..., 1] = 1.0
    loss = criterion([(classes, masks)], [targets_of([[A, A]], [1])])['loss_ce']
    log_sum = math.log(math.e + 3)
    assert float(loss) == pytest.approx(2 * ((log_sum - 1) + 0.1 * log_sum) / 1.1, rel=1e-5)


def test_losses_are_averaged_over_objects_and_frames(criterion):
    """Mask losses are sums over frames and objects divided by their number: doubled clips give the same mean."""
    classes, masks = outputs_of([(1, [C, C]), (2, [B, B])])
    torch.manual_seed(0)
    one = criterion([(classes[None], masks[None])], [targets_of([[A, A]], [1])])
    two = criterion([(classes.expand(2, -1, -1, -1), masks.expand(2, -1, -1, -1, -1))],
                    [targets_of([[A, A]], [1])] * 2)
    for name in ('loss_mask', 'loss_dice'):
        assert float(two[name]) == pytest.approx(float(one[name]), rel=0.1)


def test_a_seed_fixes_the_points(criterion):
    classes, masks = outputs_of([(1, [C, C]), (2, [B, B])])
    values = []
    for _ in range(2):
        torch.manual_seed(3)
        values.append(float(criterion([(classes[None], masks[None])], [targets_of([[A, A]], [1])])['loss_mask']))
    assert values[0] == values[1]
