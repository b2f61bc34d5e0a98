"""Ground truth of a batch as padded tensors: losses run on all images at once without synchronising with the GPU."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from mmengine.structures import InstanceData
from torch import Tensor


@dataclass
class PaddedTargets:
    """Objects of B images, G = the largest number in one of them (at least 1) or more.

    Attributes:
        gt_bboxes: (B, G, 4) float32 x1, y1, x2, y2 in network pixels; zero where padded.
        gt_labels: (B, G) int64, 0-based; zero where padded.
        gt_ids: (B, G) int64 annotation ids; −1 where padded.
        valid: (B, G) bool, False where padded.
        gt_masks: (B, G, H, W) uint8, or None where no mask was asked for.
    """

    gt_bboxes: Tensor
    gt_labels: Tensor
    gt_ids: Tensor
    valid: Tensor
    gt_masks: Tensor | None = None

    @classmethod
    def from_instances(cls, instances: Sequence[InstanceData], with_masks: bool = True,
                       multiple: int = 1) -> PaddedTargets:
        """Stack ``gt_instances`` of the images of a batch; their masks must have one size.

        Args:
            instances: of B images, on one device.
            with_masks: whether to stack the masks.
            multiple: G is rounded up to a multiple of it, so that few different shapes occur.
        """
        device = instances[0].bboxes.device
        counts = [len(item.bboxes) for item in instances]
        width = -(-max(max(counts), 1) // multiple) * multiple
        starts, total = [0, *accumulate(counts)], sum(counts)
        # rows of all images' objects; the one after the last is the padding
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
