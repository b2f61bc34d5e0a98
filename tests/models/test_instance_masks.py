"""Instance masks: CropSplit against its published boundary rule for every pixel; masks of the parts of a box."""
import math

import pytest
import torch

from mmdet.models.layers.instance_masks import crop_split, inside_boxes, split_mask_logits, split_masks


def maps(n, parts, height, width):
    """Return maps (n, parts², height, width) whose value at every pixel is the index of the map plus one."""
    return torch.arange(1., parts ** 2 + 1).view(1, -1, 1, 1).expand(n, -1, height, width)


def one_pixel(values, box, x, y, parts):
    """Compute one pixel by the published rule, in Python floats."""
    x1, y1, x2, y2 = box
    if not (x >= x1 and y >= y1 and x < x2 and y < y2):
        return 0.
    column = math.floor((x - x1) / ((x2 - x1 + 0.1) / parts))
    row = math.floor((y - y1) / ((y2 - y1 + 0.1) / parts))
    return values[row * parts + column][y][x]


def test_published_example():
    """For x1 = 1, x2 = 5, pixels 1, 2, 3 are in column 0, pixel 4 in column 1, pixel 5 is outside; rows alike."""
    out = crop_split(maps(1, 2, 7, 7), torch.tensor([[1., 1., 5., 5.]]))[0]
    assert out.tolist() == [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 2, 0, 0],
        [0, 1, 1, 1, 2, 0, 0],
        [0, 1, 1, 1, 2, 0, 0],
        [0, 3, 3, 3, 4, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize('parts', [1, 2, 3])
def test_every_pixel_follows_the_published_rule(parts):
    generator = torch.Generator().manual_seed(parts)
    masks = torch.rand(40, parts ** 2, 9, 12, generator=generator, dtype=torch.float64)
    boxes = torch.rand(40, 4, generator=generator, dtype=torch.float64) * 16 - 3
    boxes[::4] = boxes[::4].round()  # box sides exactly on pixels
    out = crop_split(masks, boxes, parts)
    values = masks.tolist()
    expected = [[[one_pixel(values[i], boxes[i].tolist(), x, y, parts) for x in range(12)] for y in range(9)]
                for i in range(40)]
    assert out.tolist() == expected and out.count_nonzero() > 0


@pytest.mark.parametrize(('box', 'inside'), [
    ([0., 0., 0., 0.], 0),
    ([4., 4., 2., 2.], 0),
    ([3., 3., 2.9, 6.], 0),
    ([-5., -5., 50., 50.], 48),
    ([math.nan, 0., 4., 4.], 0),
    ([-math.inf, 0., math.inf, 4.], 32),
    ([1.5, 0., 2.5, 1.], 1),
], ids=['empty', 'inverted', 'zero-width-cell', 'beyond-the-map', 'nan', 'infinite', 'fraction'])
def test_unusual_boxes(box, inside):
    out = crop_split(maps(1, 2, 6, 8), torch.tensor([box]))
    assert out.count_nonzero() == inside


def test_no_instances_and_leading_dimensions():
    assert crop_split(torch.rand(0, 4, 5, 6), torch.rand(0, 4)).shape == (0, 5, 6)
    masks, boxes = torch.rand(2, 3, 4, 8, 9), torch.rand(2, 3, 4) * 9
    assert torch.equal(crop_split(masks, boxes)[1, 2], crop_split(masks[1, 2][None], boxes[1, 2][None])[0])


def test_half_precision_selects_the_same_parts():
    boxes = torch.tensor([[301., 2., 340., 6.]])
    masks = maps(1, 2, 8, 360)
    assert torch.equal(crop_split(masks.half(), boxes.half()).float(), crop_split(masks, boxes))


def test_gradient_flows_only_to_the_selected_map():
    masks = torch.rand(3, 4, 7, 8, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[1., 1., 5., 5.], [-2., 0., 9., 3.5], [6., 6., 6., 6.]], requires_grad=True)
    out = crop_split(masks, boxes)
    out.sum().backward()
    assert boxes.grad is None
    assert torch.equal(masks.grad.sum(1), (out != 0).double())
    assert set(masks.grad.unique().tolist()) == {0., 1.}


def test_wrong_number_of_maps_is_an_error():
    with pytest.raises(ValueError, match='do not contain 4 maps'):
        crop_split(torch.rand(2, 3, 5, 5), torch.rand(2, 4))


def test_each_quarter_has_its_own_coefficients():
    bases = torch.ones(1, 1, 6, 8)
    coefficients = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    logits = split_mask_logits(bases, coefficients, torch.tensor([[[0.0, 0.0, 8.0, 6.0]]]), 2)[0, 0]
    # the boundary is at (side + 0.1) / 2: 4.05 and 3.05
    assert logits[:4, :5].unique().tolist() == [1.0]
    assert logits[:4, 5:].unique().tolist() == [2.0]
    assert logits[4:, :5].unique().tolist() == [3.0]
    assert logits[4:, 5:].unique().tolist() == [4.0]


@pytest.mark.parametrize('parts', [1, 2, 3])
def test_masks_of_training_and_testing_agree(parts):
    generator = torch.Generator().manual_seed(parts)
    bases = torch.rand(2, 5, 12, 17, generator=generator)
    coefficients = torch.randn(2, 6, parts ** 2 * 5, generator=generator)
    corners = torch.rand(2, 6, 2, generator=generator) * torch.tensor([16.0, 11.0]) - 2
    bboxes = torch.cat([corners, corners + torch.rand(2, 6, 2, generator=generator) * 14], dim=-1)
    logits = split_mask_logits(bases, coefficients, bboxes, parts)
    masks = split_masks(bases, coefficients, bboxes, parts)
    assert masks.any()
    torch.testing.assert_close(logits.sigmoid() * inside_boxes(bboxes, 12, 17), masks)


def test_gradients_reach_bases_and_coefficients_of_parts_inside_the_map():
    bases = torch.rand(1, 3, 6, 8, requires_grad=True)
    coefficients = torch.randn(1, 1, 12, requires_grad=True)
    bboxes = torch.tensor([[[4.0, 1.0, 20.0, 5.0]]])  # its right half is outside the map
    inside = inside_boxes(bboxes, 6, 8)
    (split_mask_logits(bases, coefficients, bboxes, 2) * inside).sum().backward()
    seen = coefficients.grad.view(4, 3).ne(0).any(dim=1)
    assert seen.tolist() == [True, False, True, False]
    assert bases.grad.ne(0).any(dim=1)[0].equal(inside[0, 0])
