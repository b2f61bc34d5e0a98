"""The box part of what a location writes into the memory (paper section 3.2); called by the dense head in training."""
from __future__ import annotations

import torch
from torch import Tensor

from mmdet.errors import UserError
from mmdet.models.layers.constants import device_constant
from mmdet.models.task_modules.points import box_distances

WRITE_TARGETS = ('published', 'inside')


def write_targets(points: Tensor, gt_bboxes: Tensor, gt_valid: Tensor, size: tuple[int, int],
                  choice: str = 'published') -> tuple[Tensor, Tensor]:
    """Distances (l, t, r, b) of each location to one ground-truth box, relative to the image, mapped by 2(v − ½).

    ``'published'``: the first box that does not contain the location strictly or, if all contain it, the smallest;
    every location of an image with ground truth is written. ``'inside'``: the smallest box that contains it; only those
    locations are written.

    Args:
        points: (n, 2) x, y in pixels. gt_bboxes: (B, G, 4). gt_valid: (B, G) bool, False for padding.
        size: (H, W) of the padded input.

    Returns:
        ``(targets, written)``: (B, n, 4) float and (B, n) bool.

    Raises:
        UserError: unknown ``choice``.
    """
    if choice not in WRITE_TARGETS:
        raise UserError(f'write_target={choice!r} is unknown; use one of {WRITE_TARGETS}')
    batch, num_gt = gt_valid.shape
    if num_gt == 0:
        return points.new_zeros(batch, len(points), 4), gt_valid.new_zeros(batch, len(points))
    distances = box_distances(points, gt_bboxes)  # (B, n, G, 4)
    valid = gt_valid[:, None]  # (B, 1, G)
    inside = (distances > 0).all(dim=-1) & valid
    area = (gt_bboxes[..., 2:] - gt_bboxes[..., :2]).prod(dim=-1)[:, None]  # (B, 1, G)
    smallest = area.expand(inside.shape).masked_fill(~inside, torch.inf).argmin(dim=-1)  # (B, n)
    if choice == 'inside':
        chosen, written = smallest, inside.any(dim=-1)
    else:
        outside = ~inside & valid
        # argmax of a 0/1 tensor: the first one
        chosen = torch.where(outside.any(dim=-1), outside.to(torch.uint8).argmax(dim=-1), smallest)
        written = gt_valid.any(dim=1, keepdim=True).expand(chosen.shape)
    picked = distances.gather(2, chosen[..., None, None].expand(-1, -1, 1, 4)).squeeze(2)  # (B, n, 4)
    height, width = size
    return 2 * (picked / device_constant((width, height) * 2, picked.device) - 0.5), written
