"""Mask of a region for every class (Mask R-CNN, section 3); called by the two-stage detectors."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn
from torchvision.ops import roi_align

from mmdet.checkpoint import ClassRows
from mmdet.models.task_modules.box_convention import BoxConvention
from mmdet.registry import MODELS


@MODELS.register_module()
class FCNMaskHead(BaseModule):
    """3×3 convolutions, a transposed convolution with stride 2, and logits of every class; channel 0 is background.

    Args:
        num_classes: number of classes without the background.
        in_channels: channels of the region features and of every layer.
        num_convs: number of 3×3 convolutions.
        roi_size: side of the region features; masks are twice as large.
        legacy_boxes: x2 and y2 are inclusive.
        init_cfg: mmengine's; Kaiming-normal by default.
    """

    class_layers = {'conv_logits': ClassRows(background='first')}

    def __init__(self, num_classes: int, in_channels: int = 256, num_convs: int = 4, roi_size: int = 14,
                 legacy_boxes: bool = False, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg or dict(type='Kaiming', layer=['Conv2d', 'ConvTranspose2d'], mode='fan_out',
                                          nonlinearity='relu'))
        self.roi_size = roi_size
        self.convention = BoxConvention(legacy_boxes)
        self.convs = nn.ModuleList(ConvModule(in_channels, in_channels, 3, padding=1) for _ in range(num_convs))
        self.upsample = nn.ConvTranspose2d(in_channels, in_channels, 2, stride=2)
        self.conv_logits = nn.Conv2d(in_channels, num_classes + 1, 1)

    def forward(self, roi_feats: Tensor) -> Tensor:
        """Compute mask logits (n, K + 1, 2s, 2s) of region features (n, C, s, s)."""
        x = roi_feats
        for conv in self.convs:
            x = conv(x)
        return self.conv_logits(self.upsample(x).relu())

    def of_label(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Select the maps (n, 2s, 2s) of the 0-based classes ``labels`` (n,)."""
        return logits[torch.arange(len(labels), device=labels.device), labels + 1]

    def loss(self, logits: Tensor, labels: Tensor, bboxes: Tensor, gt_masks: Tensor, gt_index: Tensor) -> Tensor:
        """Compute the binary cross-entropy of the object's class, averaged over all pixels; 0 without regions.

        Args:
            logits: (n, K + 1, m, m).
            labels, bboxes: (n,) 0-based classes and (n, 4) boxes of the regions.
            gt_masks: (g, H, W) in {0, 1}, in the size of the network's input.
            gt_index: (n,) index of each region's mask.
        """
        size = logits.shape[-1]
        if len(logits) == 0:
            return logits.sum()
        rois = torch.cat([gt_index[:, None].to(bboxes), self.convention.continuous(bboxes)], dim=1)
        targets = roi_align(gt_masks[:, None].float(), rois, size, aligned=True)[:, 0] >= 0.5
        return F.binary_cross_entropy_with_logits(self.of_label(logits.float(), labels), targets.float())
