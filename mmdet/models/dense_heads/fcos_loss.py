"""Class, box and centerness losses of FCOS (section 3); called by the losses of the FCOS and SipMask heads.

Symbols: B images, N locations, G padded objects, K classes.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from mmdet.models.losses.box_giou import giou_loss
from mmdet.models.task_modules.fcos_targets import FCOSTargets
from mmdet.models.task_modules.padded_targets import PaddedTargets
from mmdet.structures import aligned_legacy_box_iou

BOX_LOSSES = ('iou', 'giou')
MIN_IOU = 1e-6  # below it the logarithm of the IoU loss is cut off


def fcos_losses(cls_logits: Tensor, bboxes: Tensor, centerness: Tensor, assigned: FCOSTargets, targets: PaddedTargets,
                box_loss: str = 'iou') -> dict[str, Tensor]:
    """``loss_cls``, ``loss_bbox``, ``loss_centerness``; finite and differentiable without any positive location.

    Args:
        cls_logits: (B, N, K). bboxes: (B, N, 4) decoded, in pixels. centerness: (B, N) logits.
        assigned: what each location learns. targets: the batch's objects.
        box_loss: ``'iou'``: −ln IoU⁺, as published; ``'giou'``: 1 − GIoU. Both are weighted by the centerness target.
    """
    positive = assigned.positive
    num_positive = positive.sum()
    labels = targets.labels.gather(1, assigned.gt)
    onehot = (F.one_hot(labels, cls_logits.shape[2]) * positive[..., None]).to(cls_logits.dtype)
    gt_bboxes = targets.bboxes.gather(1, assigned.gt[..., None].expand(-1, -1, 4))
    # what does not learn is exact: its loss has no weight, and its gradient stays finite
    learners = torch.where(positive[..., None], bboxes, gt_bboxes)
    if box_loss == 'iou':
        error = -aligned_legacy_box_iou(learners, gt_bboxes).clamp(min=MIN_IOU).log()
    else:
        error = giou_loss(learners, gt_bboxes)
    weight = assigned.centerness
    centerness_error = F.binary_cross_entropy_with_logits(centerness, weight, reduction='none')
    return dict(
        loss_cls=sigmoid_focal_loss(cls_logits, onehot, reduction='sum') / (num_positive + len(cls_logits)),
        loss_bbox=(error * weight).sum() / weight.sum().clamp(min=MIN_IOU),
        loss_centerness=(centerness_error * positive).sum() / num_positive.clamp(min=1))
