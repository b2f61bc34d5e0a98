"""Compare the Triton kernels with PyTorch on the CPU; ``test_triton_kernels.py`` runs this in Triton's interpreter."""
import torch
import torch.nn.functional as F
from torchvision.ops import deform_conv2d

from mmdet.ops.deform_conv.deform_conv import triton_deform_conv
from mmdet.ops.group_norm.group_norm import triton_group_norm
from mmdet.ops.mask_logits.mask_logits_triton import mask_logits_kernel


def check_deform_conv() -> None:
    x = torch.randn(2, 16, 5, 7, requires_grad=True)
    offset = (3 * torch.randn(2, 72, 5, 7)).requires_grad_()
    weight = torch.randn(6, 16, 3, 3, requires_grad=True)
    ours = triton_deform_conv(x, offset, weight)
    theirs = deform_conv2d(x, offset, weight, padding=1)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    grad = torch.randn_like(ours)
    for a, b in zip(torch.autograd.grad(ours, (x, offset, weight), grad),
                    torch.autograd.grad(theirs, (x, offset, weight), grad)):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def check_group_norm() -> None:
    x, weight, bias = torch.randn(2, 64, 5, 9), torch.randn(64), torch.randn(64)
    for relu in (False, True):
        ours = triton_group_norm(x.contiguous(memory_format=torch.channels_last), 32, weight, bias, 1e-5, relu)
        theirs = F.group_norm(x, 32, weight, bias)
        torch.testing.assert_close(ours, theirs.relu() if relu else theirs, rtol=1e-4, atol=1e-5)


def check_mask_logits(factor: int) -> None:
    coarse, coefficients = torch.randn(2, 64, 5, 9), torch.randn(2, 10, 64)
    out = torch.full((2, 10, 5 * factor, 9 * factor), torch.nan)
    mask_logits_kernel[(-(-45 * factor ** 2 // 64), 2)](
        coarse.contiguous(memory_format=torch.channels_last), coefficients, out, 5, 9, 10, 64,
        FACTOR=factor, DETECTIONS=16, BLOCK=64, CHUNK=64)
    fine = F.interpolate(coarse, scale_factor=float(factor), mode='bilinear').relu()
    torch.testing.assert_close(out, (coefficients @ fine.flatten(2)).view_as(out), rtol=1e-4, atol=1e-4)


if __name__ == '__main__':
    torch.manual_seed(0)
    check_deform_conv()
    check_group_norm()
    for factor in (2, 4):
        check_mask_logits(factor)
    print('all kernels agree')
