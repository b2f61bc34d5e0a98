"""Mask loss of instance coefficients times a shared mask map (paper section 3.3), for the MemCNP and SipMask heads.

Symbols: B images, P slots, of which some are kept, G objects, C channels, h×w the map (half the input's resolution), c
parts of a box along each axis (1 for MemCNP).
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmdet.models.layers.instance_masks import inside_boxes, pixels_of_part, split_mask_logits
from mmdet.ops.device import is_capturing

_PIXELS_AT_ONCE = 2 ** 23  # pixels of slots, of all images together, that are processed at once; 32 MiB each tensor


def kept_slots(kept: Tensor) -> Tensor:
    """Return the indices (B, P') int64 of slots, kept ones first, that include all kept slots (B, P) of each image.

    P' is the largest number of kept slots of an image, at least 1. This needs one synchronisation with the GPU, but
    avoids most of the h·w computation per slot.
    """
    most = max(int(kept.sum(dim=1).max()), 1)
    return kept.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]


def coefficient_mask_loss(mask_map: Tensor, coefficients: Tensor, bboxes: Tensor, kept: Tensor, gt_masks: Tensor,
                          slot_gt: Tensor, weights: Tensor, dice_weight: float = 0.0) -> Tensor:
    """Compute :func:`box_mask_loss` of all slots; outside of CUDA graphs, of the kept ones, with the same result."""
    if not is_capturing():  # the number of kept slots depends on values
        index = kept_slots(kept)
        kept, slot_gt, weights = (tensor.gather(1, index) for tensor in (kept, slot_gt, weights))
        bboxes, coefficients = (tensor.gather(1, index[..., None].expand(-1, -1, tensor.shape[2]))
                                for tensor in (bboxes, coefficients))
    return box_mask_loss(mask_map, coefficients, bboxes, kept, gt_masks, slot_gt, weights, dice_weight)


def box_mask_loss(mask_map: Tensor, coefficients: Tensor, bboxes: Tensor, kept: Tensor, gt_masks: Tensor,
                  slot_gt: Tensor, weights: Tensor, dice_weight: float = 0.0, parts: int = 1) -> Tensor:
    """Compute the binary cross-entropy inside each kept box, per pixel of the box, weighted by the detection's quality.

    With ``dice_weight`` w, the loss of a box is that cross-entropy + w·(1 − (2·Σpt + 1) / (Σp + Σt + 1)), with sums
    over the pixels inside the box, p the probabilities and t the ground truth.

    The memory needed does not depend on P, apart from (B, P) and (B, P, c²·C) tensors; see :class:`_BoxSums`.

    Args:
        mask_map: (B, C, h, w).
        coefficients: (B, P, c²·C), ordered by part.
        bboxes: (B, P, 4) in pixels of the map; may extend beyond it. Not differentiated.
        kept: (B, P) bool.
        gt_masks: (B, G, h, w) in {0, 1}.
        slot_gt: (B, P) index of each slot's object.
        weights: (B, P) non-negative; rescaled to mean 1 over an image's kept slots.
        dice_weight: w.
        parts: c; each part of a box has coefficients of its own.

    Returns:
        (B,) mean over the kept boxes.
    """
    coefficients = coefficients.to(mask_map.dtype)
    sums = _BoxSums.apply(mask_map, coefficients, bboxes.detach(), gt_masks, slot_gt, parts, bool(dice_weight))
    size = (bboxes[..., 2:] - bboxes[..., :2]).prod(dim=-1).clamp(min=1)
    loss = sums[0] / size  # (B, P)
    if dice_weight:
        overlap, probs, area = sums[1:]
        loss = loss + dice_weight * (1 - (2 * overlap + 1) / (probs + area + 1))
    count = kept.sum(dim=1)  # (B,)
    weights = weights * kept
    weights = weights * (count / (weights.sum(dim=1) + 1e-4))[:, None]
    return (loss * weights).sum(dim=1) / count.clamp(min=1)


class _BoxSums(torch.autograd.Function):
    """Sums over the pixels inside each box: binary cross-entropy and, on request, Σpt, Σp and Σt.

    Autograd would keep several (B, P, h, w) tensors for the backward pass: 0.8 GB each for 8 images of 640×360 with 432
    slots. Instead, both passes compute the logits of ``_PIXELS_AT_ONCE`` pixels at a time, and only the arguments are
    kept; on a CPU, if there are no more pixels than these, also the ones inside the boxes. With the gradients g of the
    four sums, the gradient of a logit x inside the box is g₀·(p − t) + (g₁·t + g₂)·p·(1 − p), p = sigmoid(x); those of
    the coefficients and the map follow by matrix products.
    """

    @staticmethod
    def forward(ctx: Any, mask_map: Tensor, coefficients: Tensor, bboxes: Tensor, gt_masks: Tensor, slot_gt: Tensor,
                parts: int, with_dice: bool) -> Tensor:
        """Return the sums (1, B, P), or (4, B, P) with dice, in float32 or, for a map in float64, in float64."""
        tensors = mask_map, coefficients, bboxes, gt_masks, slot_gt
        ctx.save_for_backward(*tensors)
        # on a CPU, selecting pixels is faster than computing all of them, but their number depends on values
        selects = not mask_map.is_cuda and not is_capturing()
        ctx.options, ctx.portions = (parts, selects), None
        dtype = torch.promote_types(mask_map.dtype, torch.float32)
        sums = mask_map.new_empty((4 if with_dice else 1, *slot_gt.shape), dtype=dtype)
        # the backward pass must compute the same logits, whatever the state of autocast there
        with torch.autocast(mask_map.device.type, enabled=False):
            portions: Iterable[tuple[slice, slice, _Pixels]] = _Pixels.of_slots(*tensors, *ctx.options)
            if selects and slot_gt.numel() * mask_map[0, 0].numel() <= _PIXELS_AT_ONCE:
                portions = ctx.portions = list(portions)
            for images, slots, pixels in portions:
                logits, target = pixels.logits, pixels.target
                entropies = F.binary_cross_entropy_with_logits(logits, target, reduction='none')
                sums[0, images, slots] = pixels.total(entropies)
                if with_dice:
                    probs = logits.sigmoid()
                    for row, values in enumerate((probs * target, probs, target), 1):
                        sums[row, images, slots] = pixels.total(values)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        mask_map, coefficients, bboxes, *_ = ctx.saved_tensors
        parts, _ = ctx.options
        flat = mask_map.flatten(2)  # (B, C, h·w)
        # float32, since the products of many slots are added up
        grad_map = torch.zeros_like(flat, dtype=grad.dtype)
        grad_coefficients = torch.empty_like(coefficients)
        channels, height, width = mask_map.shape[1:]
        with torch.autocast(mask_map.device.type, enabled=False):
            for images, slots, pixels in ctx.portions or _Pixels.of_slots(*ctx.saved_tensors, *ctx.options):
                probs, target = pixels.logits.sigmoid(), pixels.target
                of_slots = [pixels.per_pixel(row[images, slots]) for row in grad]
                slope = (probs - target).mul_(of_slots[0])
                if len(of_slots) > 1:
                    slope.add_((target * of_slots[1]).add_(of_slots[2]).mul_(probs).mul_(1 - probs))
                slope = pixels.on_map(slope).to(mask_map.dtype)  # (b, p, h, w)
                for part in range(parts ** 2):
                    mine = slope
                    if parts > 1:
                        mine = slope * pixels_of_part(bboxes[images, slots], height, width, part, parts)
                    mine = mine.flatten(2)
                    columns = slice(part * channels, (part + 1) * channels)
                    grad_coefficients[images, slots, columns] = mine @ flat[images].transpose(1, 2)
                    # the product is laid out channels-last, as the map is
                    grad_map[images] += (mine.transpose(1, 2) @ coefficients[images, slots, columns]).transpose(1, 2)
        return grad_map.view_as(mask_map).to(mask_map.dtype), grad_coefficients, None, None, None, None, None


def _portions(batch: int, num_slots: int, pixels: int) -> Iterator[tuple[slice, slice]]:
    """Yield slices of the images and of their slots: whole images where possible, else slots of one image."""
    slots_at_once = max(min(num_slots, _PIXELS_AT_ONCE // max(pixels, 1)), 1)
    images_at_once = max(_PIXELS_AT_ONCE // max(num_slots * pixels, 1), 1)
    for image in range(0, batch, images_at_once):
        for slot in range(0, num_slots, slots_at_once):
            yield slice(image, image + images_at_once), slice(slot, slot + slots_at_once)


@dataclass
class _Pixels:
    """Pixels of p slots of each of b images: all of them, or only those inside the boxes.

    Attributes:
        logits: (b, p, h, w), or (n,) for n pixels inside boxes.
        target: the ground truth in {0, 1}, in the shape and dtype of ``logits``.
        inside: (b, p, h, w) bool.
        picked: (n,) int64 positions of the pixels in (b, p, h, w), or None for all pixels.
        slot: (n,) int64 slot of each pixel in (b, p), or None for all pixels.
    """

    logits: Tensor
    target: Tensor
    inside: Tensor
    picked: Tensor | None = None
    slot: Tensor | None = None

    @classmethod
    def of_slots(cls, mask_map: Tensor, coefficients: Tensor, bboxes: Tensor, gt_masks: Tensor, slot_gt: Tensor,
                 parts: int, selects: bool) -> Iterator[tuple[slice, slice, _Pixels]]:
        """Yield images, slots of these and their pixels, at most ``_PIXELS_AT_ONCE`` or one slot.

        Args:
            mask_map, coefficients, bboxes, gt_masks, slot_gt, parts: see :func:`box_mask_loss`.
            selects: whether to select the pixels inside the boxes, which synchronises with a GPU.
        """
        (batch, num_slots), (height, width) = slot_gt.shape, mask_map.shape[2:]
        for images, slots in _portions(batch, num_slots, height * width):
            boxes, gts = bboxes[images, slots], slot_gt[images, slots]
            logits = split_mask_logits(mask_map[images], coefficients[images, slots], boxes, parts)
            target = gt_masks[images][torch.arange(len(gts), device=gts.device)[:, None], gts]
            inside = inside_boxes(boxes, height, width)
            if selects:
                picked = inside.flatten().nonzero().squeeze(1)
                # index_select takes a third of the time of indexing
                yield images, slots, cls(logits.flatten().index_select(0, picked),
                                         target.flatten().index_select(0, picked).to(logits.dtype), inside,
                                         picked, picked // (height * width))
            else:
                yield images, slots, cls(logits, target.to(logits.dtype), inside)

    def total(self, values: Tensor) -> Tensor:
        """Return the sums of values inside each box: (b, p)."""
        if self.slot is None:
            return (values * self.inside).sum(dim=(2, 3))
        shape = self.inside.shape[:2]
        return values.new_zeros(shape.numel()).index_add(0, self.slot, values).view(shape)

    def per_pixel(self, values: Tensor) -> Tensor:
        """Return values (b, p) of slots for each pixel, in a shape that broadcasts to that of ``logits``."""
        return values[..., None, None] if self.slot is None else values.flatten().index_select(0, self.slot)

    def on_map(self, values: Tensor) -> Tensor:
        """Return values of the pixels as (b, p, h, w), 0 outside the boxes."""
        if self.picked is None:
            return values * self.inside
        return values.new_zeros(self.inside.numel()).scatter_(0, self.picked, values).view_as(self.inside)
