"""Non-maximum suppression in a fixed number of parallel steps, which a CUDA graph can capture.

Called by the two-stage detectors for graphs. torchvision's operator returns as many indices as boxes are kept, so that
the host waits for the GPU, and several graphs are necessary where one would do.

Symbols: G groups of n boxes; boxes of different groups do not suppress each other.
"""
from __future__ import annotations

import torch
from torch import Tensor

from mmdet.structures import pairwise_iou

_PAIRS_AT_ONCE = 2 ** 23  # of boxes: this bounds memory for any number of groups


def parallel_nms(bboxes: Tensor, precedes: Tensor, nms_thr: float, steps: int) -> tuple[Tensor, Tensor]:
    """Decide which boxes greedy non-maximum suppression keeps.

    A box is kept if no kept box suppresses it. Each step evaluates this for all boxes at once, with the decisions of
    the step before; at first, all boxes are kept. The decision for a box is final one step after those for the boxes
    that could suppress it, so that a step that changes nothing has the decisions of the greedy algorithm.

    Args:
        bboxes: (G, n, 4) continuous boxes.
        precedes: (G, n, n) bool: element [j, i] states whether box j may suppress box i, because its score is higher;
            never also [i, j].
        nms_thr: a box whose IoU with a kept box that precedes it exceeds this is dropped.
        steps: number of steps.

    Returns:
        ``(kept, converged)``: (G, n) bool; and () bool, whether the last step changed nothing. Otherwise ``kept`` is
        not valid.
    """
    at_once = max(_PAIRS_AT_ONCE // bboxes.shape[1] ** 2, 1)
    parts = [_keep(*part, nms_thr, steps) for part in zip(bboxes.split(at_once), precedes.split(at_once))]
    kept, before = (torch.cat(of_parts)[:, 0] for of_parts in zip(*parts))
    return kept > 0, (kept == before).all()


def _keep(bboxes: Tensor, precedes: Tensor, nms_thr: float, steps: int) -> tuple[Tensor, Tensor]:
    """Return the decisions (G, 1, n) of the last step and of the one before: 1 for kept boxes, 0 for others."""
    # float64, as in BoxConvention.nms
    suppresses = -((pairwise_iou(bboxes.double()) > nms_thr) & precedes).float()
    one = suppresses.new_ones(())
    kept = before = torch.ones_like(suppresses[:, :1])
    with torch.autocast(bboxes.device.type, enabled=False):
        for _ in range(steps):
            # minus the number of kept boxes that suppress each box; heaviside is 1 where that is 0, and 0 below
            before, kept = kept, torch.heaviside(kept @ suppresses, one)
    return kept, before
