"""The mask loss of coefficients times a map: gradients in closed form equal autograd's, in memory for few slots."""
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmdet.models.layers.instance_masks import inside_boxes, split_mask_logits
from mmdet.models.losses import coefficient_mask
from mmdet.models.losses.coefficient_mask import box_mask_loss, coefficient_mask_loss
from mmdet.ops.device import capturing

SIZE = (6, 8)


def arguments(num_slots: int = 5, parts: int = 1, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Two images with three objects; boxes reach beyond the map, and one is empty."""
    make = torch.Generator().manual_seed(0)
    corners = torch.rand(2, num_slots, 2, generator=make, dtype=dtype) * 5 - 1
    boxes = torch.cat([corners, corners + torch.rand(2, num_slots, 2, generator=make, dtype=dtype) * 6], dim=2)
    boxes[0, 0, 2:] = boxes[0, 0, :2]
    return (torch.randn(2, 4, *SIZE, generator=make, dtype=dtype).requires_grad_(),
            torch.randn(2, num_slots, 4 * parts ** 2, generator=make, dtype=dtype).requires_grad_(), boxes,
            torch.rand(2, num_slots, generator=make) < 0.7, torch.rand(2, 3, *SIZE, generator=make) < 0.5,
            torch.randint(3, (2, num_slots), generator=make), torch.rand(2, num_slots, generator=make, dtype=dtype))


def by_autograd(mask_map, coefficients, boxes, kept, gt_masks, slot_gt, weights, dice_weight, parts) -> Tensor:
    """The definition, slot by slot."""
    logits = split_mask_logits(mask_map, coefficients, boxes, parts)
    means = []
    for image in range(len(boxes)):
        losses, mine = [], weights[image] * kept[image]
        for slot, box in enumerate(boxes[image]):
            inside = inside_boxes(box, *SIZE)
            x, t = logits[image, slot][inside], gt_masks[image, slot_gt[image, slot]][inside].to(logits.dtype)
            p = x.sigmoid()
            dice = 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
            size = (box[2:] - box[:2]).prod().clamp(min=1)
            losses.append(F.binary_cross_entropy_with_logits(x, t, reduction='sum') / size + dice_weight * dice)
        count = kept[image].sum()
        means.append((torch.stack(losses) * mine).sum() * count / (mine.sum() + 1e-4) / count.clamp(min=1))
    return torch.stack(means)


@pytest.mark.parametrize('pixels', [1, 2 * 48, 2 ** 23], ids=['slot by slot', 'two slots', 'all at once'])
@pytest.mark.parametrize('parts', [1, 2])
@pytest.mark.parametrize('dice_weight', [0.0, 2.0])
@pytest.mark.parametrize('captured', [False, True], ids=['plain', 'as in a CUDA graph'])
def test_values_and_gradients_are_those_of_the_definition(monkeypatch, pixels, parts, dice_weight, captured):
    monkeypatch.setattr(coefficient_mask, '_PIXELS_AT_ONCE', pixels)
    given = arguments(parts=parts)
    expected = by_autograd(*given, dice_weight, parts)
    with capturing(lambda function, tensor: None) if captured else nullcontext():
        loss = box_mask_loss(*given, dice_weight, parts)
        into = torch.tensor([1.0, 3.0], dtype=torch.float64)
        grads = torch.autograd.grad(loss, given[:2], into)
    assert torch.allclose(loss, expected, rtol=1e-12)
    for grad, wanted in zip(grads, torch.autograd.grad(expected, given[:2], into)):
        assert torch.allclose(grad, wanted, rtol=1e-10, atol=1e-13)
        assert wanted.abs().max() > 0.01


def test_a_map_in_bfloat16_has_gradients_in_bfloat16():
    mask_map, coefficients, *others = arguments(dtype=torch.float32)
    half = mask_map.detach().bfloat16().requires_grad_()
    for given in (mask_map, half):
        with torch.autocast('cpu', torch.bfloat16, enabled=False):
            loss = coefficient_mask_loss(given, coefficients, *others)
        loss.sum().backward()
    assert loss.dtype == torch.float32 and half.grad.dtype == torch.bfloat16
    assert (half.grad.float() - mask_map.grad).norm() < 0.05 * mask_map.grad.norm()


class LargestTensor(TorchDispatchMode):
    """Finds the largest number of elements of the results of operators, views excluded."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() not in given:
                self.largest = max(self.largest, leaf.untyped_storage().nbytes() // leaf.element_size())
        return out


@pytest.mark.parametrize('parts', [1, 2])
@pytest.mark.parametrize('captured', [False, True], ids=['plain', 'as in a CUDA graph'])
def test_memory_does_not_grow_with_the_number_of_slots(monkeypatch, parts, captured):
    """Neither in between nor for the backward pass; 2 images of 48 pixels, in portions of 5 slots."""
    monkeypatch.setattr(coefficient_mask, '_PIXELS_AT_ONCE', 5 * 48 + 47)
    saved = []

    def save(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    for num_slots in (9, 60):
        given = arguments(num_slots, parts)
        small = max(given[0].numel(), given[1].numel())  # the map, and the coefficients, which do grow
        saved.clear()
        with (capturing(lambda function, tensor: None) if captured else nullcontext(), LargestTensor() as seen,
              torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor)):
            box_mask_loss(*given, 1.0, parts).sum().backward()
        assert 5 * 48 <= seen.largest <= max(5 * 48, small)
        assert max(saved) <= max(small, given[4].numel())


@pytest.mark.parametrize(('pixels', 'products'), [(9 * 2 * 48, 1), (9 * 2 * 48 - 1, 4)], ids=['few', 'two portions'])
def test_few_pixels_are_kept_for_the_backward_pass(monkeypatch, pixels, products):
    monkeypatch.setattr(coefficient_mask, '_PIXELS_AT_ONCE', pixels)
    calls = []
    monkeypatch.setattr(coefficient_mask, 'split_mask_logits',
                        lambda *args: calls.append(args) or split_mask_logits(*args))
    box_mask_loss(*arguments(num_slots=9)).sum().backward()
    assert len(calls) == products


@pytest.mark.cuda
def test_peak_memory_on_a_gpu_does_not_grow_with_the_number_of_slots():
    """8 images of 640 × 360 with 12 and 48 objects of 36 slots each; all logits would take 0.8 and 3.2 GB a tensor."""
    def peak(num_slots: int) -> int:
        mask_map = torch.randn(8, 32, 180, 320, device='cuda', requires_grad=True)
        coefficients = torch.randn(8, num_slots, 32, device='cuda', requires_grad=True)
        boxes = torch.tensor([20.0, 20.0, 90.0, 60.0], device='cuda').expand(8, num_slots, 4)
        kept = torch.ones(8, num_slots, dtype=torch.bool, device='cuda')
        gt_masks = torch.ones(8, 4, 180, 320, dtype=torch.bool, device='cuda')
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        with capturing(lambda function, tensor: None):
            losses = coefficient_mask_loss(mask_map, coefficients, boxes, kept, gt_masks, kept.long(), kept.float())
            losses.sum().backward()
        return torch.cuda.max_memory_allocated() - before

    small, large = peak(12 * 36), peak(48 * 36)
    assert large < 1.5 * small
    assert large < 800 * 2 ** 20


def test_portions_are_whole_images_or_slots_of_one_image(monkeypatch):
    monkeypatch.setattr(coefficient_mask, '_PIXELS_AT_ONCE', 24)

    def portions(batch: int, num_slots: int, pixels: int) -> list[tuple[range, range]]:
        return [(range(batch)[images], range(num_slots)[slots])
                for images, slots in coefficient_mask._portions(batch, num_slots, pixels)]

    assert portions(3, 2, 6) == [(range(2), range(2)), (range(2, 3), range(2))]
    assert portions(2, 3, 12) == [(range(1), range(2)), (range(1), range(2, 3)),
                                  (range(1, 2), range(2)), (range(1, 2), range(2, 3))]
    assert portions(1, 2, 100) == [(range(1), range(1)), (range(1), range(1, 2))]
