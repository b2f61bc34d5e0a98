"""Training losses of the SipMask head (SipMask, section 3.3, and SipMask-VIS); called by ``SipMaskHead.loss``.

Symbols: B images, N locations, G padded objects, R padded reference objects, P slots that learn a mask, h×w
the mask bases (half the input's resolution).
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.models.dense_heads.fcos_loss import fcos_losses
from mmdet.models.layers.split_masks import split_mask_logits
from mmdet.models.losses.coefficient_mask import box_mask_loss
from mmdet.models.task_modules.fcos_targets import default_regress_ranges, fcos_targets
from mmdet.models.task_modules.map_sampling import boxes_from_distances, gather_rows, jitter_boxes, sample_at_centers
from mmdet.models.task_modules.padded_targets import PaddedTargets
from mmdet.structures import aligned_legacy_box_iou

if TYPE_CHECKING:
    from mmdet.models.dense_heads.sipmask_head import SipMaskMaps

MIN_MASK_AREA = 1  # boxes that are not larger, in half-resolution pixels, learn no mask and no identity


class SipMaskLoss:
    """Five losses of a batch of key/reference pairs, and the matching accuracy.

    All are finite and differentiable without ground truth, positive location or surviving box; an image without ground
    truth teaches background.

    Args:
        strides: of the levels.
        num_splits: rows and columns of parts of a box.
        center_radius: locations within so many strides of a box's centre learn the object.
        track_jitter: a reference box's centre is shifted by up to this share of its size before its embedding is read.
    """

    def __init__(self, strides: Sequence[int], num_splits: int = 2, center_radius: float = 1.5,
                 track_jitter: float = 0.05) -> None:
        self.strides, self.num_splits = tuple(strides), num_splits
        self.regress_ranges = default_regress_ranges(len(self.strides))
        self.center_radius, self.track_jitter = center_radius, track_jitter

    def __call__(self, maps: SipMaskMaps, ref_track: Tensor, targets: PaddedTargets,
                 references: PaddedTargets) -> dict[str, Tensor]:
        """``ref_track`` (B, 512, H/8, W/8) is the reference frames' track map; see :class:`SipMaskMaps`."""
        assigned = fcos_targets(maps.points, maps.level_sizes, self.strides, self.regress_ranges, targets,
                                self.center_radius)
        bboxes = boxes_from_distances(maps.points, maps.distances)  # (B, N, 4), not clipped
        losses = fcos_losses(maps.cls_logits, bboxes, maps.centerness, assigned, targets)

        bboxes = bboxes.detach()
        sides = (bboxes[..., 2:] - bboxes[..., :2]) / 2
        kept = assigned.positive & (sides > 0).all(dim=-1) & (sides.prod(dim=-1) > MIN_MASK_AREA)
        # pack the kept locations: the one look at the device saves most of the h·w work
        num_slots = max(int(kept.sum(dim=1).max()), 1)
        index = kept.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :num_slots]  # (B, P)
        kept, slot_gt = kept.gather(1, index), assigned.gt.gather(1, index)
        bboxes = gather_rows(bboxes, index)
        losses['loss_mask'] = self._masks(maps, index, bboxes, kept, slot_gt, targets)
        losses.update(self._tracking(maps.track.float(), ref_track, bboxes, kept, slot_gt, targets, references))
        return losses

    def _masks(self, maps: SipMaskMaps, index: Tensor, bboxes: Tensor, kept: Tensor, slot_gt: Tensor,
               targets: PaddedTargets) -> Tensor:
        """Mask loss of the slots, each weighted by its class confidence and the quality of its box."""
        halved = bboxes / 2
        gt_bboxes, labels = gather_rows(targets.bboxes, slot_gt), targets.labels.gather(1, slot_gt)
        confidence = gather_rows(maps.cls_logits.detach(), index).gather(2, labels[..., None]).squeeze(2).sigmoid()
        quality = aligned_legacy_box_iou(gt_bboxes / 2, halved) * confidence
        masks = F.interpolate(targets.masks.float(), scale_factor=0.5, mode='bilinear', align_corners=False) > 0.5
        logits = split_mask_logits(maps.bases, gather_rows(maps.coefficients, index), halved, self.num_splits)
        return box_mask_loss(logits, halved, kept, masks, slot_gt, quality).mean()

    def _tracking(self, track: Tensor, ref_track: Tensor, bboxes: Tensor, kept: Tensor, slot_gt: Tensor,
                  targets: PaddedTargets, references: PaddedTargets) -> dict[str, Tensor]:
        """Which reference object is each slot's: cross-entropy over "none" and the dot products with all of them."""
        queries = sample_at_centers(track, bboxes)  # (B, P, C)
        keys = sample_at_centers(ref_track, jitter_boxes(references.bboxes, self.track_jitter))  # (B, R, C)
        similarity = (queries @ keys.transpose(1, 2)).masked_fill(~references.valid[:, None], -torch.inf)
        logits = F.pad(similarity, (1, 0))  # (B, P, 1 + R)
        match = targets.match(references).gather(1, slot_gt)  # (B, P)
        count = kept.sum(dim=1)
        error = F.cross_entropy(logits.flatten(0, 1), match.flatten(), reduction='none').view_as(match)
        right = (logits.argmax(dim=2) == match) & kept
        return dict(loss_match=((error * kept).sum(dim=1) / count.clamp(min=1)).mean(),
                    match_acc=100 * right.sum() / count.sum().clamp(min=1))
