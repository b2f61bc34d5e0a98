"""Embeddings of regions, matched with the objects of the reference frame (MaskTrack R-CNN, section 4.1).

Called by the two-stage detectors; in testing the tracker compares the embeddings.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.registry import MODELS

NEW_OBJECT = 0


@MODELS.register_module()
class TrackHead(BaseModule):
    """Two fully connected layers with ReLU in between; similarity is the dot product, and 0 for "a new object".

    Args:
        in_channels, roi_size: the input is (n, in_channels, roi_size, roi_size).
        fc_channels: channels of both layers.
        init_cfg: mmengine's; normal(0, 0.01) by default.
    """

    def __init__(self, in_channels: int = 256, roi_size: int = 7, fc_channels: int = 1024,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg or dict(type='Normal', layer='Linear', std=0.01))
        self.roi_size = roi_size
        self.fcs = nn.ModuleList([nn.Linear(in_channels * roi_size ** 2, fc_channels),
                                  nn.Linear(fc_channels, fc_channels)])

    def forward(self, roi_feats: Tensor) -> Tensor:
        """Compute embeddings (n, fc_channels) of region features (n, C, s, s)."""
        return self.fcs[1](self.fcs[0](roi_feats.flatten(1)).relu())

    def loss(self, embeddings: Tensor, image: Tensor, targets: Tensor, ref_embeddings: Tensor, ref_image: Tensor,
             num_images: int) -> dict[str, Tensor]:
        """Compute the cross-entropy over [new object, objects of the image's reference frame].

        It is averaged over the regions of each image, then over all images of the batch.

        Args:
            embeddings, image: (n, E) embeddings of positive regions, and (n,) indices of their images.
            targets: (n,) ``NEW_OBJECT`` or 1 + index in ``ref_embeddings``.
            ref_embeddings, ref_image: (r, E), (r,) of the objects of the reference frames.
            num_images: number of images of the batch.

        Returns:
            ``loss_match`` and ``match_acc`` (percent, averaged as the loss; 0 without regions).
        """
        similarity = (embeddings @ ref_embeddings.T).float()
        similarity = similarity.masked_fill(image[:, None] != ref_image, -torch.inf)
        similarity = torch.cat([similarity.new_zeros(len(similarity), 1), similarity], dim=1)
        weight = 1 / image.bincount(minlength=num_images).clamp(min=1)[image] / num_images
        loss = (F.cross_entropy(similarity, targets, reduction='none') * weight).sum()
        # without regions the gradient must be 0, not missing: DistributedDataParallel needs one for every parameter
        loss = loss + 0 * (embeddings.sum() + ref_embeddings.sum())
        accuracy = ((similarity.argmax(dim=1) == targets) * weight).sum() * 100
        return dict(loss_match=loss, match_acc=accuracy.detach())
