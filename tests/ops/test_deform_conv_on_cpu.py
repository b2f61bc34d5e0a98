"""The CPU's deformable convolution equals torchvision's, forward and backward, also where samples leave the map."""
import pytest
import torch
from torchvision.ops import deform_conv2d

from mmdet.ops.deform_conv import deform_conv3x3
from mmdet.ops.deform_conv.on_cpu import deform_conv3x3_on_cpu


@pytest.mark.parametrize(('batch', 'channels', 'groups', 'height', 'width', 'spread'), [
    (2, 8, 4, 6, 7, 0.0), (2, 8, 4, 6, 7, 1.5), (1, 4, 1, 1, 1, 3.0), (1, 4, 2, 2, 9, 20.0)],
    ids=['plain convolution', 'near', 'one pixel', 'mostly outside'])
def test_equals_torchvision(batch, channels, groups, height, width, spread):
    torch.manual_seed(0)
    x = torch.randn(batch, channels, height, width, dtype=torch.float64, requires_grad=True)
    offset = (spread * torch.randn(batch, groups * 18, height, width, dtype=torch.float64)).requires_grad_()
    weight = torch.randn(3, channels, 3, 3, dtype=torch.float64, requires_grad=True)
    wanted = deform_conv2d(x, offset, weight, padding=1)
    found = deform_conv3x3_on_cpu(x, offset, weight)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    direction = torch.randn_like(wanted)
    # at zero offsets samples lie on pixels, where the slope in the offset has two values
    inputs = [x, weight] if spread == 0 else [x, offset, weight]
    for gradient, expected in zip(torch.autograd.grad(found, inputs, direction),
                                  torch.autograd.grad(wanted, inputs, direction)):
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9)


def test_keeps_the_input_type():
    x, offset = torch.randn(1, 4, 3, 3, dtype=torch.bfloat16), torch.zeros(1, 18, 3, 3)
    assert deform_conv3x3(x, offset, torch.randn(2, 4, 3, 3)).dtype == torch.bfloat16
