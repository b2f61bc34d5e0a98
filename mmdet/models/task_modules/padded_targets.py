"""Ground truth of a batch as padded tensors, so that losses run on all images at once without looking at the device."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


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
        """Stack ``gt_instances`` of the images of a batch; their masks must have one size. G is a ``multiple``."""
        device = instances[0].bboxes.device
        counts = [len(item.bboxes) for item in instances]
        width = -(-max(max(counts), 1) // multiple) * multiple
        valid = torch.tensor([[i < n for i in range(width)] for n in counts]).to(device, non_blocking=True)

        def pad(field: str, fill: int = 0) -> Tensor:
            stacked = pad_sequence([getattr(item, field) for item in instances], batch_first=True, padding_value=fill)
            missing = width - stacked.shape[1]
            return F.pad(stacked, (0, 0) * (stacked.ndim - 2) + (0, missing), value=fill) if missing else stacked

        return cls(pad('bboxes').float(), pad('labels'), pad('instances_id', -1), valid,
                   pad('masks') if with_masks else None)

    def tensors(self) -> tuple[Tensor, ...]:
        """The attributes in order, without ``masks`` where there are none."""
        fields = self.bboxes, self.labels, self.ids, self.valid
        return fields if self.masks is None else (*fields, self.masks)

    def match(self, reference: PaddedTargets) -> Tensor:
        """Position of the same object in the reference's list, 1-based, 0 if absent: (B, G) int64."""
        same = (self.ids[:, :, None] == reference.ids[:, None]) & self.valid[:, :, None] & reference.valid[:, None]
        return torch.where(same.any(dim=2), same.to(torch.uint8).argmax(dim=2) + 1, 0)
