"""The GIoU loss: values and gradients equal torchvision's."""
import torch
from torchvision.ops import generalized_box_iou_loss

from mmdet.structures import giou_loss


def test_values_and_gradients_are_torchvisions():
    generator = torch.Generator().manual_seed(0)
    start, size = torch.rand(2, 3, 100, 2, generator=generator) * 10, torch.rand(2, 3, 100, 2, generator=generator) * 6
    start[:, 0, :20] = 0  # boxes at the edge, some empty
    size[0, 0, :5] = 0
    boxes = torch.cat([start, start + size], dim=-1)
    boxes[1, 1, 0] = boxes[0, 1, 0]
    boxes[1, 1, 1, :2] = boxes[0, 1, 1, 2:]  # touch in a corner
    mine, theirs = (boxes.clone().requires_grad_() for _ in range(2))
    loss, expected = giou_loss(mine[0], mine[1]), generalized_box_iou_loss(theirs[0], theirs[1])
    assert torch.allclose(loss, expected, atol=1e-5)
    loss.sum().backward()
    expected.sum().backward()
    assert torch.allclose(mine.grad, theirs.grad, atol=1e-4)
    assert loss[1, 0] < 1e-5 and loss.max() > 1
