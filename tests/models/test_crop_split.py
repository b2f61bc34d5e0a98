"""CropSplit: the published boundary rules, pixel by pixel, and its gradient."""
import math

import pytest
import torch

from mmdet.models.layers.crop_split import crop_split, crop_split_gt


def maps(n, parts, height, width):
    """Maps whose value at every pixel is the index of the map plus one."""
    return torch.arange(1., parts ** 2 + 1).view(1, -1, 1, 1).expand(n, -1, height, width)


def one_pixel(values, box, x, y, parts):
    """The published rule for one pixel, in Python floats."""
    x1, y1, x2, y2 = box
    if not (x >= x1 and y >= y1 and x < x2 and y < y2):
        return 0.
    column = math.floor((x - x1) / ((x2 - x1 + 0.1) / parts))
    row = math.floor((y - y1) / ((y2 - y1 + 0.1) / parts))
    return values[row * parts + column][y][x]


def test_published_example():
    """x1 = 1, x2 = 5: pixels 1, 2, 3 lie in column 0, pixel 4 in column 1; likewise down; 5 is outside."""
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
    boxes[::4] = boxes[::4].round()  # pixels exactly on the borders
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


def test_half_maps_and_boxes_choose_the_same_parts():
    boxes = torch.tensor([[301., 2., 340., 6.]])
    masks = maps(1, 2, 8, 360)
    assert torch.equal(crop_split(masks.half(), boxes.half()).float(), crop_split(masks, boxes))


def test_gradient_goes_to_the_chosen_map_alone():
    masks = torch.rand(3, 4, 7, 8, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[1., 1., 5., 5.], [-2., 0., 9., 3.5], [6., 6., 6., 6.]], requires_grad=True)
    out = crop_split(masks, boxes)
    out.sum().backward()
    assert boxes.grad is None
    assert torch.equal(masks.grad.sum(1), (out != 0).double())
    assert set(masks.grad.unique().tolist()) == {0., 1.}


def test_ground_truth_is_cropped_by_the_same_rule():
    masks = torch.ones(2, 7, 8)
    boxes = torch.tensor([[1., 1., 5., 5.], [0.5, 0., 3., 9.]])
    assert torch.equal(crop_split_gt(masks, boxes), crop_split(masks[:, None].expand(-1, 4, -1, -1), boxes))


def test_wrong_number_of_maps_is_named():
    with pytest.raises(ValueError, match='do not hold 4 maps'):
        crop_split(torch.rand(2, 3, 5, 5), torch.rand(2, 4))
