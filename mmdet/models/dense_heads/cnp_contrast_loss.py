"""Training losses of the MemCNP head (paper section 3.3 and 3.4); called by ``CNPContrastHead.loss``.

Symbols: B images, N locations, G padded objects, P slots of positives, C channels, K classes, H×W padded input.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from mmdet.models.layers.constants import device_constant
from mmdet.models.losses.box_giou import giou_loss
from mmdet.models.losses.coefficient_mask import coefficient_mask_loss
from mmdet.models.losses.contrastive_track import contrastive_track_loss, match_accuracy
from mmdet.models.losses.mixture_nll import mixture_nll_loss
from mmdet.models.task_modules.cnp_assigners import Assignment
from mmdet.models.task_modules.map_sampling import decode_boxes, gather_rows, jitter_boxes, sample_at_centers
from mmdet.models.task_modules.padded_targets import PaddedTargets
from mmdet.registry import TASK_UTILS
from mmdet.structures import aligned_legacy_box_iou

if TYPE_CHECKING:
    from mmdet.models.dense_heads.cnp_contrast_head import CNPMaps

LOSSES = ('loss_bbox', 'loss_cls', 'loss_cnp', 'loss_seg', 'loss_centerness', 'loss_match', 'match_acc')
MIN_MASK_BOX = 4  # smaller boxes, in half-resolution pixels, learn no mask


class CNPContrastLoss:
    """Six losses of a batch of key/reference pairs, all on the device.

    ``loss_bbox, loss_cls, loss_cnp, loss_seg, loss_match`` are sums over images divided by the number of images with
    ground truth, ``loss_centerness`` is divided by B. All are finite and differentiable with no ground truth, positive
    or kept box.

    Args:
        num_classes: K.
        assigner: config of the assigner.
        track_jitter: a reference box's centre is shifted by up to this share of its size before its embedding is read.
    """

    def __init__(self, num_classes: int, assigner: dict, track_jitter: float = 0.05) -> None:
        self.num_classes = num_classes
        self.assigner = TASK_UTILS.build(assigner)
        self.track_jitter = track_jitter

    def __call__(self, maps: CNPMaps, ref_track: Tensor, targets: PaddedTargets,
                 references: PaddedTargets, pack: bool = True) -> dict[str, Tensor]:
        """The values of ``LOSSES``.

        Args:
            maps: of the key frames.
            ref_track: (B, C, H/8, W/8), the reference frames' track map; see :class:`CNPMaps`.
            targets, references: objects of the key frames and of the reference frames.
            pack: look at the device to leave out masks that teach nothing. Same result; without, more work and memory.
        """
        assignment = self.assigner(maps.points, maps.level_sizes, maps.sigmas.detach(), targets)
        index, slot_gt, positive = assignment.index, assignment.gt, assignment.positive
        num_positive = positive.sum(dim=1).clamp(min=1)  # (B,)
        boxes = decode_boxes(maps.points, maps.means, maps.size)  # (B, N, 4)
        slot_boxes, gt_boxes = gather_rows(boxes, index), gather_rows(targets.bboxes, slot_gt)
        labels = targets.labels.gather(1, slot_gt)
        confidence = gather_rows(maps.cls_logits, index).gather(2, labels[..., None]).squeeze(2).sigmoid().detach()

        giou = giou_loss(slot_boxes, gt_boxes)  # (B, P)
        per_image = dict(
            loss_bbox=torch.where(positive, giou, 0.0).sum(dim=1) / num_positive,
            loss_cls=self._classification(maps.cls_logits, assignment, labels) / num_positive,
            loss_cnp=self._likelihood(maps, assignment, slot_boxes, gt_boxes, confidence, targets))
        per_image['loss_seg'], kept = self._segmentation(maps, assignment, slot_boxes, confidence, targets, pack)
        num_images = targets.valid.any(dim=1).sum().clamp(min=1)
        losses = {name: value.sum() / num_images for name, value in per_image.items()}
        losses['loss_centerness'] = self._centerness(maps.centerness, assignment)
        losses.update(self._tracking(maps.track.float(), ref_track, slot_boxes, slot_gt, kept, targets, references,
                                     num_images))
        return losses

    def _classification(self, logits: Tensor, assignment: Assignment, labels: Tensor) -> Tensor:
        """Focal loss summed over positives and negatives: (B,)."""
        # add, since empty slots may share a positive's location
        place = assignment.index * self.num_classes + labels
        target = torch.zeros_like(logits).flatten(1).scatter_add_(1, place, assignment.positive.to(logits.dtype))
        target = target.view_as(logits)
        learns = (target.amax(dim=2) > 0) | assignment.negative
        return (sigmoid_focal_loss(logits, target).sum(dim=2) * learns).sum(dim=1)

    @staticmethod
    def _likelihood(maps: CNPMaps, assignment: Assignment, slot_boxes: Tensor, gt_boxes: Tensor, confidence: Tensor,
                    targets: PaddedTargets) -> Tensor:
        height, width = maps.size
        scale = device_constant((width, height) * 2, slot_boxes.device)
        error = (1 - confidence) + (1 - aligned_legacy_box_iou(slot_boxes.detach(), gt_boxes))
        weights = assignment.centerness.gather(1, assignment.index) + 1e-9
        return mixture_nll_loss(slot_boxes / scale, gather_rows(maps.sigmas, assignment.index), targets.bboxes / scale,
                                weights, error, assignment.gt, assignment.positive, len(maps.points))

    @staticmethod
    def _segmentation(maps: CNPMaps, assignment: Assignment, slot_boxes: Tensor, confidence: Tensor,
                      targets: PaddedTargets, pack: bool) -> tuple[Tensor, Tensor]:
        """Mask loss (B,) and which slots kept a box large enough (B, P)."""
        boxes = slot_boxes.detach() / 2
        kept = assignment.positive & (boxes[..., 2:] - boxes[..., :2] > MIN_MASK_BOX).all(dim=-1)
        masks = F.interpolate(targets.masks.float(), scale_factor=0.5, mode='bilinear', align_corners=False) > 0.5
        coefficients = sample_at_centers(maps.track, slot_boxes.detach())
        quality = aligned_legacy_box_iou(gather_rows(targets.bboxes, assignment.gt) / 2, boxes) * confidence
        loss = coefficient_mask_loss(maps.mask, coefficients, boxes, kept, masks, assignment.gt, quality, pack)
        return loss, kept

    @staticmethod
    def _centerness(logits: Tensor, assignment: Assignment) -> Tensor:
        loss = F.binary_cross_entropy_with_logits(logits, assignment.centerness, reduction='none') * assignment.inside
        return (loss.sum(dim=1) / assignment.inside.sum(dim=1).clamp(min=1)).mean()

    def _tracking(self, track: Tensor, ref_track: Tensor, slot_boxes: Tensor, slot_gt: Tensor, kept: Tensor,
                  targets: PaddedTargets, references: PaddedTargets, num_images: Tensor) -> dict[str, Tensor]:
        queries = sample_at_centers(track, targets.bboxes)
        keys = sample_at_centers(ref_track, jitter_boxes(references.bboxes, self.track_jitter))
        match = targets.match(references)  # (B, G)
        image_kept = kept.any(dim=1, keepdim=True)
        loss = contrastive_track_loss(queries, keys, targets.valid & image_kept, references.valid & image_kept, match)
        coefficients = sample_at_centers(track, slot_boxes.detach())
        accuracy = match_accuracy(coefficients.detach(), keys.detach(), references.valid, match.gather(1, slot_gt),
                                  kept)
        # the published weights were trained so: a batch with no right match teaches nothing
        return dict(loss_match=torch.where(accuracy > 0, loss / num_images, 0.0 * loss), match_acc=accuracy)
