"""Non-maximum suppression and detection with fixed shapes against torchvision's operator, to the bit."""
import pytest
import torch

from mmdet.models.dense_heads import RPNHead
from mmdet.models.dense_heads.rpn_head import Candidates
from mmdet.models.roi_heads import Shared2FCBBoxHead, bbox_head
from mmdet.models.task_modules import parallel_nms as module
from mmdet.models.task_modules.box_convention import BoxConvention
from mmdet.models.task_modules.parallel_nms import parallel_nms


def clusters(generator, number, spread):
    """Boxes (number, 4) around a few objects; coordinates are multiples of 1/4, so that equal boxes and IoUs occur."""
    centres, sizes = (100 * torch.rand(4, 2, generator=generator) + low for low in (0, 20))
    which = torch.randint(4, (number,), generator=generator)
    noise = torch.randn(2, number, 2, generator=generator) * spread
    centre, size = centres[which] + 20 * noise[0], sizes[which] * noise[1].exp()
    return (torch.cat([centre - size / 2, centre + size / 2], dim=1) * 4).round() / 4


@pytest.mark.parametrize('spread', [0.0, 0.05, 0.3])
@pytest.mark.parametrize('nms_thr', [0.5, 0.7])
def test_the_greedy_algorithm(spread, nms_thr):
    generator = torch.Generator().manual_seed(0)
    boxes = torch.stack([clusters(generator, 80, spread) for _ in range(3)])
    kept, converged = parallel_nms(boxes, torch.ones(80, 80).triu(1).bool().expand(3, -1, -1), nms_thr, steps=16)
    assert converged
    for group, mine in zip(boxes, kept):
        theirs = BoxConvention().nms(group, torch.arange(80, 0, -1), torch.zeros(80, dtype=torch.long), nms_thr)
        assert mine.nonzero()[:, 0].tolist() == sorted(theirs.tolist())


def test_a_chain_needs_a_step_for_each_box():
    """Each box overlaps with the next one only, so that every second one is kept, decided one after the other."""
    left = 6.0 * torch.arange(9)
    boxes = torch.stack([left, torch.zeros(9), left + 10, torch.full((9,), 10.0)], dim=1)[None]  # IoU 4/16
    precedes = torch.ones(1, 9, 9).triu(1).bool()
    kept, converged = parallel_nms(boxes, precedes, 0.2, steps=9)
    assert converged and kept[0].tolist() == [index % 2 == 0 for index in range(9)]
    assert not parallel_nms(boxes, precedes, 0.2, steps=8)[1]


def test_parts_of_the_groups_do_not_change_the_result(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    boxes = torch.stack([clusters(generator, 30, 0.1) for _ in range(5)])
    precedes = torch.ones(30, 30).triu(1).bool().expand(5, -1, -1)
    whole, _ = parallel_nms(boxes, precedes, 0.5, steps=16)
    monkeypatch.setattr(module, '_PAIRS_AT_ONCE', 2 * 30 ** 2)
    parts, converged = parallel_nms(boxes, precedes, 0.5, steps=16)
    assert converged and torch.equal(parts, whole)


@pytest.mark.parametrize('legacy_boxes', [False, True])
def test_proposals_with_fixed_shapes(legacy_boxes):
    head = RPNHead(in_channels=8, nms_pre=40, max_per_img=30, legacy_boxes=legacy_boxes)
    generator, sizes = torch.Generator().manual_seed(2), [40, 40, 12]
    bboxes = torch.stack([clusters(generator, sum(sizes), 0.1) for _ in range(2)])
    scores = [torch.rand(2, size, generator=generator).mul(20).round().div(20).sort(descending=True).values
              for size in sizes]  # many are equal
    levels = torch.cat([torch.full((2, size), level) for level, size in enumerate(sizes)], dim=1)
    candidates = Candidates(bboxes, torch.cat(scores, dim=1), levels)
    *fixed, exact = head.fixed_proposals(candidates, sizes)
    assert exact
    for mine, theirs in zip(fixed, head.proposals(candidates), strict=True):
        assert torch.equal(mine, theirs)


def test_sizes_of_the_levels():
    head, feats = RPNHead(in_channels=8, nms_pre=40), [torch.zeros(1, 8, side, side) for side in (16, 8, 4, 2, 1)]
    candidates = head.candidates(feats, *head(feats), torch.tensor([[64.0, 64.0]]))
    assert candidates.levels[0].bincount().tolist() == head.level_sizes(feats) == [40, 40, 40, 12, 3]


def scored_boxes(seed, regions=40):
    """Boxes and scores of three classes in two images; many scores are equal, and many below the threshold."""
    generator = torch.Generator().manual_seed(seed)
    bboxes = torch.stack([clusters(generator, 3 * regions, 0.1) for _ in range(2)])
    scores = torch.rand(2, 3 * regions, generator=generator).mul(20).round().div(20)
    return bboxes, torch.where(scores > 0.4, scores, -1.0)


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('legacy_boxes', [False, True])
def test_selection_with_fixed_shapes(seed, legacy_boxes):
    head = Shared2FCBBoxHead(num_classes=3, in_channels=8, fc_channels=8, legacy_boxes=legacy_boxes)
    bboxes, scores = scored_boxes(seed)
    *fixed, exact = head.fixed_select(bboxes, scores)
    assert exact
    for mine, theirs in zip(fixed, head.select(bboxes, scores), strict=True):
        assert torch.equal(mine, theirs)


def test_further_candidates_matter_only_if_too_few_are_kept(monkeypatch):
    monkeypatch.setattr(bbox_head, '_CANDIDATES', 60)
    bboxes, scores = scored_boxes(0)
    few = Shared2FCBBoxHead(num_classes=3, in_channels=8, fc_channels=8, max_per_img=3)
    *fixed, exact = few.fixed_select(bboxes, scores)
    assert exact and torch.equal(fixed[1], few.select(bboxes, scores)[1])
    many = Shared2FCBBoxHead(num_classes=3, in_channels=8, fc_channels=8, max_per_img=60)
    assert not many.fixed_select(bboxes, scores)[-1]


def test_without_scores_above_the_threshold(monkeypatch):
    monkeypatch.setattr(bbox_head, '_CANDIDATES', 60)
    head = Shared2FCBBoxHead(num_classes=3, in_channels=8, fc_channels=8)
    _, scores, _, exact = head.fixed_select(torch.zeros(2, 120, 4), torch.full((2, 120), -1.0))
    assert exact and (scores == -1).all()
