"""Ground truth of a batch as padded tensors, so that losses of all images are computed at once, without GPU syncs."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from mmengine.structures import InstanceData
from torch import Tensor


@dataclass
class PaddedTargets:
    """Objects of B images, padded to G, which is at least 1 and at least the largest number of objects of an image.

    Attributes:
        gt_bboxes: (B, G, 4) float32 x1, y1, x2, y2 in network pixels; padded with 0.
        gt_labels: (B, G) int64, 0-based; padded with 0.
        gt_ids: (B, G) int64 annotation ids; padded with −1.
        valid: (B, G) bool, False for padding.
        gt_masks: (B, G, H, W) uint8, or None without masks.
    """

    gt_bboxes: Tensor
    gt_labels: Tensor
    gt_ids: Tensor
    valid: Tensor
    gt_masks: Tensor | None = None

    @classmethod
    def from_instances(cls, instances: Sequence[InstanceData], with_masks: bool = True,
                       at_least: int = 1) -> PaddedTargets:
        """Stack ``gt_instances`` of the images of a batch, whose masks must have equal sizes.

        Args:
            instances: objects of B images, on one device.
            with_masks: whether to stack the masks.
            at_least: minimum of G, so that few different shapes occur.
        """
        device = instances[0].bboxes.device
        counts = [len(item.bboxes) for item in instances]
        width = max(*counts, at_least)
        starts, total = [0, *accumulate(counts)], sum(counts)
        # indices into the concatenated objects of all images; the index after the last object is the padding
        rows = torch.tensor([[start + i if i < n else total for i in range(width)] for start, n in zip(starts, counts)])
        rows = rows.to(device, non_blocking=True)

        def pad(field: str, fill: int = 0) -> Tensor:
            values = [getattr(item, field) for item in instances]
            return torch.cat([*values, values[0].new_full((1, *values[0].shape[1:]), fill)])[rows]

        return cls(pad('bboxes').float(), pad('labels'), pad('instances_id', -1), rows < total,
                   pad('masks') if with_masks else None)

    def __len__(self) -> int:
        return len(self.valid)

    def match(self, reference: PaddedTargets) -> Tensor:
        """Return the 1-based position of the same object in the reference's list, 0 if absent: (B, G) int64."""
        same = self.gt_ids[:, :, None] == reference.gt_ids[:, None]
        same = same & self.valid[:, :, None] & reference.valid[:, None]
        return torch.where(same.any(dim=2), same.to(torch.uint8).argmax(dim=2) + 1, 0)
