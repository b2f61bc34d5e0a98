"""Label assignment of boxes by IoU (Faster R-CNN, section 3.1.2), and random sampling of a minibatch.

Called by the RPN head and the two-stage detectors.
"""
from __future__ import annotations

import torch
from torch import Tensor

from mmdet.models.task_modules.box_convention import BoxConvention
from mmdet.registry import TASK_UTILS

IGNORED, NEGATIVE = -2, -1


@TASK_UTILS.register_module()
class MaxIoUAssigner:
    """Assign each box to the object with the highest IoU, and each object to its boxes of highest IoU.

    Args:
        pos_iou_thr: a box whose highest IoU is at least this is positive.
        neg_iou_thr: a box whose highest IoU is less than this is negative; between the two thresholds it is ignored.
        min_pos_iou: the boxes of highest IoU with an object (all, on ties) are positive if the IoU is at least this.
        legacy_boxes: x2 and y2 are inclusive.
    """

    def __init__(self, pos_iou_thr: float, neg_iou_thr: float, min_pos_iou: float, legacy_boxes: bool = False) -> None:
        self.pos_iou_thr, self.neg_iou_thr, self.min_pos_iou = pos_iou_thr, neg_iou_thr, min_pos_iou
        self.convention = BoxConvention(legacy_boxes)

    def assign(self, bboxes: Tensor, gt_bboxes: Tensor) -> Tensor:
        """Assign boxes (n, 4) to objects (g, 4); g may be 0.

        Returns:
            (n,) int64: index of an object, ``NEGATIVE`` or ``IGNORED``.
        """
        if len(gt_bboxes) == 0 or len(bboxes) == 0:
            return bboxes.new_full((len(bboxes),), NEGATIVE, dtype=torch.long)
        iou = self.convention.iou(gt_bboxes, bboxes)  # (g, n)
        best_iou, assigned = iou.max(dim=0)
        is_positive = best_iou >= self.pos_iou_thr
        assigned = torch.where(is_positive, assigned, torch.where(best_iou < self.neg_iou_thr, NEGATIVE, IGNORED))
        object_best = iou.amax(dim=1, keepdim=True)
        is_best = (iou == object_best) & (object_best >= self.min_pos_iou)
        rank = torch.arange(1, len(gt_bboxes) + 1, device=iou.device)[:, None]
        last = (is_best * rank).amax(dim=0) - 1  # a box of highest IoU for several objects is assigned to the last
        return torch.where(last >= 0, last, assigned)


@TASK_UTILS.register_module()
class RandomBoxSampler:
    """Sample up to ``pos_fraction * num`` positives, and negatives otherwise, without synchronising with the GPU.

    Args:
        num: number of boxes per image.
        pos_fraction: maximum fraction of positives.
    """

    def __init__(self, num: int, pos_fraction: float) -> None:
        self.num = num
        self.max_pos = int(num * pos_fraction)

    def sample(self, assigned: Tensor) -> tuple[Tensor, Tensor]:
        """Sample from the assignment (n,) of :class:`MaxIoUAssigner`.

        Returns:
            ``(index, valid)``: (s,) int64 and bool, s = min(num, n); positives first. Slots are not valid if there are
            too few positives and negatives.
        """
        draw = torch.rand(len(assigned), device=assigned.device)
        positive_draw = torch.where(assigned >= 0, draw, -1.0)
        best, chosen = positive_draw.topk(min(self.max_pos, len(assigned)))
        order = torch.where(assigned == NEGATIVE, draw, -1.0)
        order[chosen] = torch.where(best >= 0, best + 2, order[chosen])
        key, index = order.topk(min(self.num, len(assigned)))
        return index, key >= 0
