"""Which boxes learn which object: by overlap (Faster R-CNN, 3.1.2). Called by the RPN head and the detectors."""
from __future__ import annotations

import torch
from torch import Tensor

from mmdet.models.task_modules.box_convention import BoxConvention
from mmdet.registry import TASK_UTILS

IGNORED, NEGATIVE = -2, -1


@TASK_UTILS.register_module()
class MaxIoUAssigner:
    """A box learns the object it overlaps most, if enough; every object also gets its best boxes.

    Args:
        pos_iou_thr: an overlap of at least this makes a positive.
        neg_iou_thr: a box that overlaps every object less is a negative; between the two it is ignored.
        min_pos_iou: an object's best boxes (all, on ties) are positives for it if they overlap it at least this much.
        legacy_boxes: boxes name their last pixel.
    """

    def __init__(self, pos_iou_thr: float, neg_iou_thr: float, min_pos_iou: float, legacy_boxes: bool = False) -> None:
        self.pos_iou_thr, self.neg_iou_thr, self.min_pos_iou = pos_iou_thr, neg_iou_thr, min_pos_iou
        self.convention = BoxConvention(legacy_boxes)

    def assign(self, boxes: Tensor, gt_bboxes: Tensor) -> Tensor:
        """Boxes (n, 4), objects (g, 4), g may be 0 → (n,) int64: index of an object, ``NEGATIVE`` or ``IGNORED``."""
        if len(gt_bboxes) == 0 or len(boxes) == 0:
            return boxes.new_full((len(boxes),), NEGATIVE, dtype=torch.long)
        iou = self.convention.iou(gt_bboxes, boxes)  # (g, n)
        best_iou, assigned = iou.max(dim=0)
        is_positive = best_iou >= self.pos_iou_thr
        assigned = torch.where(is_positive, assigned, torch.where(best_iou < self.neg_iou_thr, NEGATIVE, IGNORED))
        object_best = iou.amax(dim=1, keepdim=True)
        is_best = (iou == object_best) & (object_best >= self.min_pos_iou)
        rank = torch.arange(1, len(gt_bboxes) + 1, device=iou.device)[:, None]
        last = (is_best * rank).amax(dim=0) - 1  # the last object wins a box that is best for several
        return torch.where(last >= 0, last, assigned)
