"""The deformable convolutions in plain PyTorch equal torchvision's in outputs and gradients, also outside the map."""
import pytest
import torch
from torchvision.ops import deform_conv2d

from mmdet.ops.deform_conv import deform_conv3x3
from mmdet.ops.deform_conv.deform_conv_cpu import deform_conv3x3_cpu
from mmdet.ops.deform_conv.deform_conv_deterministic import deform_conv3x3_deterministic


@pytest.mark.parametrize('convolution', [deform_conv3x3_cpu, deform_conv3x3_deterministic])
@pytest.mark.parametrize(('batch', 'channels', 'groups', 'height', 'width', 'spread'), [
    (2, 8, 4, 6, 7, 0.0), (2, 8, 4, 6, 7, 1.5), (1, 4, 1, 1, 1, 3.0), (1, 4, 2, 2, 9, 20.0)],
    ids=['plain convolution', 'near', 'one pixel', 'mostly outside'])
def test_equals_torchvision(convolution, batch, channels, groups, height, width, spread):
    torch.manual_seed(0)
    x = torch.randn(batch, channels, height, width, dtype=torch.float64, requires_grad=True)
    offset = (spread * torch.randn(batch, groups * 18, height, width, dtype=torch.float64)).requires_grad_()
    weight = torch.randn(3, channels, 3, 3, dtype=torch.float64, requires_grad=True)
    wanted = deform_conv2d(x, offset, weight, padding=1)
    found = convolution(x, offset, weight)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    direction = torch.randn_like(wanted)
    # at zero offsets the samples lie on pixel centres, where bilinear sampling is not differentiable in the offset
    inputs = [x, weight] if spread == 0 else [x, offset, weight]
    for gradient, expected in zip(torch.autograd.grad(found, inputs, direction),
                                  torch.autograd.grad(wanted, inputs, direction)):
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9)


def test_output_has_the_dtype_of_the_input():
    x, offset = torch.randn(1, 4, 3, 3, dtype=torch.bfloat16), torch.zeros(1, 18, 3, 3)
    assert deform_conv3x3(x, offset, torch.randn(2, 4, 3, 3)).dtype == torch.bfloat16


def test_non_finite_offsets_make_the_output_non_finite():
    """Training that diverges must stop with a non-finite loss, not with an index out of range."""
    x, offset = torch.ones(1, 2, 3, 3), torch.zeros(1, 18, 3, 3)
    for place, value in enumerate((torch.nan, torch.inf, -torch.inf)):
        offset[0, 0, place, 0] = value
    found = deform_conv3x3_deterministic(x, offset, torch.ones(1, 2, 3, 3))[0, 0]
    assert found[:, 1:].isfinite().all() and not found[0, 0].isfinite()


@pytest.mark.cuda
def test_gradients_on_a_gpu_are_reproducible_with_deterministic_algorithms():
    torch.manual_seed(0)
    x = torch.randn(2, 64, 40, 60, device='cuda', requires_grad=True)
    offset = (3 * torch.randn(2, 72, 40, 60, device='cuda')).requires_grad_()
    weight = torch.randn(32, 64, 3, 3, device='cuda', requires_grad=True)
    inputs, direction = (x, offset, weight), torch.randn(2, 32, 40, 60, device='cuda')
    expected = torch.autograd.grad(deform_conv3x3(*inputs), inputs, direction)
    torch.use_deterministic_algorithms(True)
    try:
        results = [torch.autograd.grad(deform_conv3x3(*inputs), inputs, direction) for _ in range(3)]
    finally:
        torch.use_deterministic_algorithms(False)
    for others in zip(*results, expected):
        assert all(torch.equal(others[0], other) for other in others[1:3])
        assert (others[0] - others[3]).norm() < 1e-2 * others[3].norm()  # TF32
