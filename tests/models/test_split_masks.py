"""Split masks: which coefficients a pixel takes, and that the way through training gives the same numbers."""
import pytest
import torch

from mmdet.models.layers.box_crop import inside_boxes
from mmdet.models.layers.split_masks import split_mask_logits, split_masks


def test_each_quarter_has_its_own_coefficients():
    bases = torch.ones(1, 1, 6, 8)
    coefficients = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    logits = split_mask_logits(bases, coefficients, torch.tensor([[[0.0, 0.0, 8.0, 6.0]]]), 2)[0, 0]
    # the line lies at (side + 0.1) / 2: 4.05 and 3.05
    assert logits[:4, :5].unique().tolist() == [1.0]
    assert logits[:4, 5:].unique().tolist() == [2.0]
    assert logits[4:, :5].unique().tolist() == [3.0]
    assert logits[4:, 5:].unique().tolist() == [4.0]


@pytest.mark.parametrize('splits', [1, 2, 3])
def test_training_and_testing_agree(splits):
    generator = torch.Generator().manual_seed(splits)
    bases = torch.rand(2, 5, 12, 17, generator=generator)
    coefficients = torch.randn(2, 6, splits ** 2 * 5, generator=generator)
    corners = torch.rand(2, 6, 2, generator=generator) * torch.tensor([16.0, 11.0]) - 2
    bboxes = torch.cat([corners, corners + torch.rand(2, 6, 2, generator=generator) * 14], dim=-1)
    logits = split_mask_logits(bases, coefficients, bboxes, splits)
    masks = split_masks(bases, coefficients, bboxes, splits)
    assert masks.any()
    torch.testing.assert_close(logits.sigmoid() * inside_boxes(bboxes, 12, 17), masks)


def test_gradients_reach_bases_and_the_coefficients_of_the_parts_in_sight():
    bases = torch.rand(1, 3, 6, 8, requires_grad=True)
    coefficients = torch.randn(1, 1, 12, requires_grad=True)
    bboxes = torch.tensor([[[4.0, 1.0, 20.0, 5.0]]])  # its right half lies outside the map
    inside = inside_boxes(bboxes, 6, 8)
    (split_mask_logits(bases, coefficients, bboxes, 2) * inside).sum().backward()
    seen = coefficients.grad.view(4, 3).ne(0).any(dim=1)
    assert seen.tolist() == [True, False, True, False]
    assert bases.grad.ne(0).any(dim=1)[0].equal(inside[0, 0])
