"""Mask loss of instance coefficients times a shared mask map (paper section 3.3); of MemCNP and SipMask.

Symbols: B images, P slots, G objects, C channels, h×w the map (half the input's resolution).
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.models.layers.box_crop import inside_boxes


def coefficient_mask_loss(mask_map: Tensor, coefficients: Tensor, bboxes: Tensor, kept: Tensor, gt_masks: Tensor,
                          slot_gt: Tensor, weights: Tensor, pack: bool = True) -> Tensor:
    """Binary cross-entropy inside each kept box, per pixel of the box, weighted by the quality of the detection.

    Args:
        mask_map: (B, C, h, w). coefficients: (B, P, C).
        bboxes: (B, P, 4) in pixels of the map, within it. kept: (B, P) bool.
        gt_masks: (B, G, h, w) in {0, 1}. slot_gt: (B, P) object of each slot.
        weights: (B, P) non-negative; rescaled to mean 1 over an image's kept slots.
        pack: leave out slots that no image keeps, which needs one look at the device and saves most of the h·w work.

    Returns:
        (B,) mean over the kept boxes.
    """
    if pack:
        most = max(int(kept.sum(dim=1).max()), 1)
        order = kept.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
        kept, slot_gt, weights = (tensor.gather(1, order) for tensor in (kept, slot_gt, weights))
        bboxes, coefficients = (tensor.gather(1, order[..., None].expand(-1, -1, tensor.shape[2]))
                                for tensor in (bboxes, coefficients))
    logits = (coefficients.to(mask_map.dtype) @ mask_map.flatten(2)).unflatten(2, mask_map.shape[-2:]).float()
    return box_mask_loss(logits, bboxes, kept, gt_masks, slot_gt, weights, pack)


def box_mask_loss(logits: Tensor, bboxes: Tensor, kept: Tensor, gt_masks: Tensor, slot_gt: Tensor,
                  weights: Tensor, pack: bool = True) -> Tensor:
    """The loss of :func:`coefficient_mask_loss`, from logits; boxes may reach beyond the map.

    Args:
        logits: (B, P, h, w).
        pack: on a CPU, compute only the pixels inside boxes. Their number is not fixed.
        bboxes, kept, gt_masks, slot_gt, weights: as there.

    Returns:
        (B,) mean over the kept boxes.
    """
    target = gt_masks[torch.arange(len(gt_masks), device=slot_gt.device)[:, None], slot_gt]
    inside = inside_boxes(bboxes, *logits.shape[-2:])
    if pack and not logits.is_cuda:  # to pick pixels takes a CPU less time than to compute them all
        picked = inside.flatten().nonzero().squeeze(1)
        pixel = _cross_entropy(logits.flatten()[picked], target.flatten()[picked])
        slot = picked // (logits.shape[2] * logits.shape[3])
        total = pixel.new_zeros(slot_gt.numel()).index_add(0, slot, pixel).view_as(slot_gt)
    else:
        total = (_cross_entropy(logits, target) * inside).sum(dim=(2, 3))  # (B, P)
    count = kept.sum(dim=1)  # (B,)
    size = (bboxes[..., 2:] - bboxes[..., :2]).prod(dim=-1).clamp(min=1)
    weights = weights * kept
    weights = weights * (count / (weights.sum(dim=1) + 1e-4))[:, None]
    return (total / size * weights).sum(dim=1) / count.clamp(min=1)


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction='none')
