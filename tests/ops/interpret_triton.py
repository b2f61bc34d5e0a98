"""Compare the Triton kernels with PyTorch on the CPU; ``test_triton_kernels.py`` runs this in Triton's interpreter."""
import torch
import torch.nn.functional as F
from torchvision.ops import deform_conv2d

from mmdet.ops.deform_conv.deform_conv import triton_deform_conv
from mmdet.ops.group_norm.group_norm import triton_group_norm
from mmdet.ops.mask_logits.mask_logits import triton_mask_logits
from mmdet.ops.mask_resize.mask_resize import mask_resize, triton_mask_resize
from mmdet.ops.prior_overlap.prior_overlap import triton_prior_overlap
from mmdet.ops.residual_norm.residual_norm import triton_residual_norm
from mmdet.structures import pairwise_iou


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


def check_group_norm(batch: int, channels: int, height: int, width: int, num_groups: int) -> None:
    x, weight, bias = torch.randn(batch, channels, height, width) + 2, torch.randn(channels), torch.randn(channels)
    for relu in (False, True):
        ours = triton_group_norm(x.contiguous(memory_format=torch.channels_last), num_groups, weight, bias, 1e-5, relu)
        theirs = F.group_norm(x, num_groups, weight, bias)
        torch.testing.assert_close(ours, theirs.relu() if relu else theirs, rtol=1e-4, atol=2e-5)


def check_mask_logits(factor: int) -> None:
    for height, width, channels in ((5, 9, 64), (1, 1, 32), (2, 20, 96)):
        coarse, coefficients = torch.randn(2, channels, height, width), torch.randn(2, 10, channels)
        out = triton_mask_logits(coarse.contiguous(memory_format=torch.channels_last), coefficients, factor)
        fine = F.interpolate(coarse, scale_factor=float(factor), mode='bilinear').relu()
        torch.testing.assert_close(out, (coefficients @ fine.flatten(2)).view_as(out), rtol=1e-4, atol=1e-4)


def check_residual_norm(channels: int, dtype: torch.dtype) -> None:
    norm = torch.nn.LayerNorm(channels)
    torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
    residual, branch, first = 4 * torch.randn(2, 3, channels) + 9, torch.randn(2, 3, channels), torch.randn(channels)
    branch = branch.to(dtype)
    total = residual + branch
    for replacement in (None, first):
        if replacement is not None:
            total[:, 0] = replacement
        with torch.no_grad():
            ours, normed = triton_residual_norm(residual, branch, norm, dtype, replacement)
            theirs = norm(total)
        assert torch.equal(ours, total) and normed.dtype == dtype
        # the interpreter truncates bfloat16 where a GPU rounds to the nearest
        ulps = 1.02 if dtype == torch.bfloat16 else 0.52
        torch.testing.assert_close(normed.float(), theirs, rtol=ulps * torch.finfo(dtype).eps, atol=2e-6)
    with torch.no_grad():
        alone = triton_residual_norm(total, None, norm, dtype)
    assert alone[0] is total and torch.equal(alone[1], normed)


def check_prior_overlap(number: int) -> None:
    boxes = 100 * torch.rand(2, 3, number, 2).repeat(1, 1, 1, 2) + torch.tensor([0.0, 0, 30, 40])
    boxes[0, 0, number // 2] = boxes[0, 0, 0] = 5.0  # empty: their IoU is NaN
    theirs = pairwise_iou(boxes).triu(diagonal=1).amax(dim=2)
    assert theirs.isnan().sum() == (number > 1)
    torch.testing.assert_close(triton_prior_overlap(boxes), theirs, rtol=0, atol=0, equal_nan=True)


def check_mask_resize(factor: float, shape: tuple[int, int]) -> None:
    masks = torch.rand(2, 9, 14)
    assert torch.equal(triton_mask_resize(masks, factor, shape), mask_resize(masks, factor, shape))


if __name__ == '__main__':
    torch.manual_seed(0)
    check_deform_conv()
    check_group_norm(2, 64, 5, 9, 32)
    check_group_norm(1, 256, 47, 45, 32)  # several blocks in a program, an incomplete last one
    check_group_norm(2, 256, 1, 1, 32)
    for channels in (96, 768):
        for dtype in (torch.bfloat16, torch.float16):
            check_residual_norm(channels, dtype)
    for number in (1, 31, 200):
        check_prior_overlap(number)
    for scale, shape in ((2.963, (26, 41)), (0.6, (5, 8)), (2.0, (17, 300)), (1.7, (20, 11))):
        check_mask_resize(scale, shape)
    for factor in (2, 4):
        check_mask_logits(factor)
    print('all kernels agree')
