"""Ground truth of a batch as padded tensors, so that losses run on all images at once without looking at the device."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from mmengine.structures import InstanceData
from torch import Tensor


@dataclass
class PaddedTargets:
    """B images, G = the largest number of objects in one of them (at least 1) or more.

    Attributes:
        bboxes: (B, G, 4) float32 x1,y1,x2,y2 in network pixels; zero where padded.
        labels: (B, G) int64, 0-based; zero where padded.
        ids: (B, G) int64 annotation ids; −1 where padded.
        valid: (B, G) bool.
        masks: (B, G, H, W) uint8, or None where no mask was given.
    """

    bboxes: Tensor
    labels: Tensor
    ids: Tensor
    valid: Tensor
    masks: Tensor | None = None

    @classmethod
    def from_instances(cls, instances: Sequence[InstanceData], with_masks: bool = True,
                       multiple: int = 1) -> PaddedTargets:
        """Stack ``gt_instances`` of the images of a batch; their masks must have one size.

        Args:
            instances: of B images, on one device.
            with_masks: whether the masks are wanted.
            multiple: G becomes the next multiple of it, so that few different shapes occur.
        """
        device = instances[0].bboxes.device
        counts = [len(item.bboxes) for item in instances]
        width = -(-max(max(counts), 1) // multiple) * multiple
        starts, total = [0, *accumulate(counts)], sum(counts)
        # rows of all images' objects; the one behind the last is the padding
        rows = torch.tensor([[start + i if i < n else total for i in range(width)] for start, n in zip(starts, counts)])
        rows = rows.to(device, non_blocking=True)

        def pad(field: str, fill: int = 0) -> Tensor:
            values = [getattr(item, field) for item in instances]
            return torch.cat([*values, values[0].new_full((1, *values[0].shape[1:]), fill)])[rows]

        return cls(pad('bboxes').float(), pad('labels'), pad('instances_id', -1), rows < total,
                   pad('masks') if with_masks else None)

    def tensors(self) -> tuple[Tensor, ...]:
        """The attributes in order, without ``masks`` where there are none."""
        fields = self.bboxes, self.labels, self.ids, self.valid
        return fields if self.masks is None else (*fields, self.masks)

    def match(self, reference: PaddedTargets) -> Tensor:
        """Position of the same object in the reference's list, 1-based, 0 if absent: (B, G) int64."""
        same = (self.ids[:, :, None] == reference.ids[:, None]) & self.valid[:, :, None] & reference.valid[:, None]
        return torch.where(same.any(dim=2), same.to(torch.uint8).argmax(dim=2) + 1, 0)
