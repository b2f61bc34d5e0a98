"""Training targets of sampled regions, and correspondences of the objects of a frame and its reference frame.

Called by the two-stage detectors in training.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.roi_heads.track_head import NEW_OBJECT
from mmdet.models.task_modules.box_assignment import IGNORED, MaxIoUAssigner, RandomBoxSampler


def batch_index(items: Sequence[Tensor]) -> Tensor:
    """Return the index (Σ n_i,) int64 of the tensor in ``items`` for each row of their concatenation."""
    return torch.cat([row.new_full((len(row),), index, dtype=torch.long) for index, row in enumerate(items)])


def roi_targets(proposals: Tensor, valid: Tensor, gt_bboxes: Sequence[Tensor], gt_labels: Sequence[Tensor],
                assigner: MaxIoUAssigner, sampler: RandomBoxSampler) -> InstanceData:
    """Sample regions from the proposals and the ground-truth boxes.

    Args:
        proposals, valid: (B, p, 4) in network pixels and (B, p) bool.
        gt_bboxes, gt_labels: B tensors (g, 4) and (g,), g may be 0.
        assigner, sampler: assigner and sampler of the regions.

    Returns:
        ``image`` (n,) index of the image, 0 to B − 1; ``bboxes`` (n, 4); ``labels`` (n,) 0-based class, −1 for
        background; ``gt_index`` (n,) index of the object in the concatenated objects, arbitrary for background.
    """
    samples = []
    offset = 0
    for image, (bboxes, is_box, gts, labels) in enumerate(zip(proposals, valid, gt_bboxes, gt_labels)):
        bboxes = torch.cat([gts, bboxes])
        is_box = torch.cat([is_box.new_ones(len(gts)), is_box])
        assigned = torch.where(is_box, assigner.assign(bboxes, gts), IGNORED)
        index, drawn = sampler.sample(assigned)
        index = index[drawn]
        gt_index = assigned[index]
        padded_labels = torch.cat([labels, labels.new_full((1,), -1)])  # index −1 of negatives is the last row
        samples.append(InstanceData(image=torch.full_like(index, image), bboxes=bboxes[index],
                                    labels=padded_labels[gt_index], gt_index=gt_index + offset))
        offset += len(gts)
    return InstanceData.cat(samples)


def match_targets(ids: Sequence[Tensor], ref_ids: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Match the objects of B frames with those of their reference frames by instance id.

    Args:
        ids, ref_ids: B tensors (g,) and (r,) of instance ids, unique within a frame.

    Returns:
        ``(ref_image, targets)``: (Σ r,) index of the frame of each reference object; (Σ g,) ``NEW_OBJECT``, or 1 + the
        index of the same object in the concatenated reference objects.
    """
    image, ref_image = batch_index(ids), batch_index(ref_ids)
    same = (torch.cat(list(ids))[:, None] == torch.cat(list(ref_ids))[None]) & (image[:, None] == ref_image[None])
    row = torch.arange(1, len(ref_image) + 1, device=same.device)
    if len(ref_image) == 0:
        return ref_image, torch.full_like(image, NEW_OBJECT)
    return ref_image, (same * row).amax(dim=1)  # 0, which is NEW_OBJECT, without a match
