"""A random minibatch of boxes with a bounded share of positives. Called by the RPN head and the detectors."""
from __future__ import annotations

import torch
from torch import Tensor

from mmdet.models.task_modules.max_iou_assigner import NEGATIVE
from mmdet.registry import TASK_UTILS


@TASK_UTILS.register_module()
class RandomBoxSampler:
    """Up to ``pos_fraction * num`` positives, the rest negatives, without asking the device how many there are.

    Args:
        num: boxes per image.
        pos_fraction: largest share of positives.
    """

    def __init__(self, num: int, pos_fraction: float) -> None:
        self.num = num
        self.max_pos = int(num * pos_fraction)

    def sample(self, assigned: Tensor) -> tuple[Tensor, Tensor]:
        """Draw from the assignment (n,) of :class:`MaxIoUAssigner`.

        Returns:
            ``(index, valid)``: (s,) int64 and bool, s = min(num, n); positives come first, slots with too few
            boxes left are not valid.
        """
        draw = torch.rand(len(assigned), device=assigned.device)
        positive_draw = torch.where(assigned >= 0, draw, -1.0)
        best, chosen = positive_draw.topk(min(self.max_pos, len(assigned)))
        order = torch.where(assigned == NEGATIVE, draw, -1.0)
        order[chosen] = torch.where(best >= 0, best + 2, order[chosen])
        key, index = order.topk(min(self.num, len(assigned)))
        return index, key >= 0
