"""Mask loss of instance coefficients times a shared mask map (paper section 3.3), for the MemCNP and SipMask heads.

Symbols: B images, P slots, of which some are kept, G objects, C channels, h×w the map (half the input's resolution).
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.models.layers.instance_masks import inside_boxes
from mmdet.ops.device import is_capturing


def kept_slots(kept: Tensor) -> Tensor:
    """Return the indices (B, P') int64 of slots, kept ones first, that include all kept slots (B, P) of each image.

    P' is the largest number of kept slots of an image, at least 1. This needs one synchronisation with the GPU, but
    avoids most of the h·w computation per slot.
    """
    most = max(int(kept.sum(dim=1).max()), 1)
    return kept.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]


def coefficient_mask_loss(mask_map: Tensor, coefficients: Tensor, bboxes: Tensor, kept: Tensor, gt_masks: Tensor,
                          slot_gt: Tensor, weights: Tensor, dice_weight: float = 0.0) -> Tensor:
    """Compute the binary cross-entropy inside each kept box, per pixel of the box, weighted by the detection's quality.

    With ``dice_weight`` w, the loss of a box is that cross-entropy + w·(1 − (2·Σpt + 1) / (Σp + Σt + 1)), with sums
    over the pixels inside the box, p the probabilities and t the ground truth.

    Args:
        mask_map: (B, C, h, w).
        coefficients: (B, P, C).
        bboxes: (B, P, 4) in pixels of the map, within it.
        kept: (B, P) bool.
        gt_masks: (B, G, h, w) in {0, 1}.
        slot_gt: (B, P) index of each slot's object.
        weights: (B, P) non-negative; rescaled to mean 1 over an image's kept slots.
        dice_weight: w.

    Returns:
        (B,) mean over the kept boxes.
    """
    if not is_capturing():  # same result with fewer slots, but their number depends on values
        index = kept_slots(kept)
        kept, slot_gt, weights = (tensor.gather(1, index) for tensor in (kept, slot_gt, weights))
        bboxes, coefficients = (tensor.gather(1, index[..., None].expand(-1, -1, tensor.shape[2]))
                                for tensor in (bboxes, coefficients))
    logits = (coefficients.to(mask_map.dtype) @ mask_map.flatten(2)).unflatten(2, mask_map.shape[-2:]).float()
    return box_mask_loss(logits, bboxes, kept, gt_masks, slot_gt, weights, dice_weight)


def box_mask_loss(logits: Tensor, bboxes: Tensor, kept: Tensor, gt_masks: Tensor, slot_gt: Tensor,
                  weights: Tensor, dice_weight: float = 0.0) -> Tensor:
    """Compute :func:`coefficient_mask_loss` from mask logits; boxes may extend beyond the map.

    Args:
        logits: (B, P, h, w).
        bboxes, kept, gt_masks, slot_gt, weights, dice_weight: see :func:`coefficient_mask_loss`.

    Returns:
        (B,) mean over the kept boxes.
    """
    target = gt_masks[torch.arange(len(gt_masks), device=slot_gt.device)[:, None], slot_gt]
    inside = inside_boxes(bboxes, *logits.shape[-2:])
    if not logits.is_cuda and not is_capturing():  # on a CPU, selecting pixels is faster than computing all of them
        picked = inside.flatten().nonzero().squeeze(1)
        slot = picked // (logits.shape[2] * logits.shape[3])
        logits, target = logits.flatten()[picked], target.flatten()[picked].to(logits.dtype)

        def total(values: Tensor) -> Tensor:
            return values.new_zeros(slot_gt.numel()).index_add(0, slot, values).view_as(slot_gt)
    else:
        target = target.to(logits.dtype)

        def total(values: Tensor) -> Tensor:
            return (values * inside).sum(dim=(2, 3))  # (B, P)
    size = (bboxes[..., 2:] - bboxes[..., :2]).prod(dim=-1).clamp(min=1)
    loss = total(F.binary_cross_entropy_with_logits(logits, target, reduction='none')) / size  # (B, P)
    if dice_weight:
        probs = logits.sigmoid()
        loss = loss + dice_weight * (1 - (2 * total(probs * target) + 1) / (total(probs) + total(target) + 1))
    count = kept.sum(dim=1)  # (B,)
    weights = weights * kept
    weights = weights * (count / (weights.sum(dim=1) + 1e-4))[:, None]
    return (loss * weights).sum(dim=1) / count.clamp(min=1)
