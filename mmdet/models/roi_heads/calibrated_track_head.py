"""Track head of CMaskTrack R-CNN, which also aligns the features of a reference frame with the current frame.

Qi et al., Occluded video instance segmentation, IJCV 2022, section 4.2. Called by ``CMaskTrackRCNN``. The parameters of
the calibration belong to the track head, as in published weights.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet.models.layers.feature_align import DeformConv3x3
from mmdet.models.roi_heads.track_head import TrackHead
from mmdet.ops.correlation import spatial_correlation_sample
from mmdet.registry import MODELS


@MODELS.register_module()
class CalibratedTrackHead(TrackHead):
    """:class:`TrackHead` with temporal feature calibration; one set of weights for all pyramid levels.

    Args:
        patch_size, dilation_patch: number of shifts per axis, and distance between shifts in cells.
        detach_ref: whether to stop gradients to the features of the reference frame.
        in_channels, roi_size, fc_channels, init_cfg: see :class:`TrackHead`.
    """

    def __init__(self, in_channels: int = 256, roi_size: int = 7, fc_channels: int = 1024, patch_size: int = 16,
                 dilation_patch: int = 2, detach_ref: bool = False, init_cfg: dict | None = None) -> None:
        super().__init__(in_channels, roi_size, fc_channels, init_cfg)
        self.patch_size, self.dilation_patch, self.detach_ref = patch_size, dilation_patch, detach_ref
        shifts = patch_size ** 2
        self.offset_convs = nn.ModuleList(ConvModule(shifts, shifts, 3, padding=1) for _ in range(3))
        self.conv_offset = nn.Conv2d(shifts, 18, 3, padding=1)
        self.dconv_featureflow = DeformConv3x3(in_channels, in_channels)

    def calibrate(self, maps: Sequence[Tensor], ref_maps: Sequence[Tensor]) -> list[Tensor]:
        """Add the reference's map to each level, sampled at offsets computed from the correlation of the two maps.

        Args:
            maps, ref_maps: (B, C, h_l, w_l) of the current and the reference frames.

        Returns:
            (B, C, h_l, w_l) for each level.
        """
        calibrated = []
        for current, reference in zip(maps, ref_maps):
            if self.detach_ref:
                reference = reference.detach()
            correlation = spatial_correlation_sample(current, reference, patch_size=self.patch_size,
                                                     dilation_patch=self.dilation_patch).flatten(1, 2)
            offset = F.leaky_relu(correlation / current.shape[1], 0.1)
            for conv in self.offset_convs:
                offset = conv(offset)
            calibrated.append(self.dconv_featureflow(reference, self.conv_offset(offset)) + current)
        return calibrated
