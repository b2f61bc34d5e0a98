"""The MemCNP head (paper section 3): class and box branches that read a memory, a mask map and a track map.

Called by :class:`~mmdet.models.detectors.SipMaskMem`: ``loss`` in training, ``detect`` in testing. The losses are in
``cnp_contrast_loss.py``, the way from maps to detections in ``cnp_contrast_predict.py``.

Symbols: B images, C channels, K classes, H×W padded input, level l of stride s = 8·2^l with an h×w map, N locations of
all levels.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmcv.cnn import Scale
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.models.dense_heads.clip_predictor import DeviceDetections, FrameGeometry
from mmdet.models.dense_heads.cnp_contrast_loss import CNPContrastLoss
from mmdet.models.dense_heads.cnp_contrast_predict import CNPContrastPredictor
from mmdet.models.layers.constants import device_constant
from mmdet.models.layers.conv_tower import conv_tower, init_dense_head
from mmdet.models.layers.feature_align import FeatureAlign
from mmdet.models.layers.pyramid import flatten_levels, fuse_levels
from mmdet.models.memory import CNPMemory
from mmdet.models.memory.write_targets import write_targets
from mmdet.models.task_modules.padded_targets import PaddedTargets
from mmdet.models.task_modules.points import pyramid_points
from mmdet.ops.resize import resize
from mmdet.registry import MODELS
from mmdet.structures import TrackDataSample

_FINE_LEVELS = 3  # levels that feed the mask and the track map
MASK_FACTOR = 4  # from the finest level's resolution to the mask map's


@dataclass
class CNPMaps:
    """What the head says about a batch of frames.

    Attributes:
        cls_logits: (B, N, K) float32. centerness: (B, N) logits, float32.
        means: (B, N, 4) in (0, 1): distances l, t, r, b from the location to the box, relative to the image.
        sigmas: (B, N, 4) standard deviations of the same, at least 0.1.
        track: (B, C, H/8, W/8). coarse_mask: (B, C, H/8, W/8), see :attr:`mask`.
        points: (N, 2) x, y of the locations in pixels. level_sizes: (h, w) of each level. size: (H, W).
    """

    cls_logits: Tensor
    centerness: Tensor
    means: Tensor
    sigmas: Tensor
    track: Tensor
    coarse_mask: Tensor
    points: Tensor
    level_sizes: list[tuple[int, int]]
    size: tuple[int, int]

    @property
    def mask(self) -> Tensor:
        """The mask map (B, C, H/2, W/2), non-negative: the coarse one upsampled, then clamped at 0."""
        return resize(self.coarse_mask, MASK_FACTOR).relu()


@MODELS.register_module()
class CNPContrastHead(BaseModule):
    """Dense head with a conditional-neural-process memory and contrastive track embeddings.

    Args:
        num_classes: K.
        in_channels: C, of the pyramid's maps and of all branches; a multiple of 32.
        stacked_convs: convolutions of the mask tower; class and track towers have one fewer.
        strides: of the levels; levels beyond are ignored.
        num_units, update_mode: of the memory, see :class:`CNPMemory`.
        write_target: what the memory stores, see :func:`write_targets`.
        assigner: config of an assigner in ``task_modules/cnp_assigners.py``.
        track_jitter: share of its size by which a reference box is shifted at random in training.
        test_cfg: ``max_pre_nms, score_thr, nms_thr, max_per_img``, see :class:`CNPContrastPredictor`.
    """

    def __init__(self, num_classes: int, in_channels: int = 256, stacked_convs: int = 3,
                 strides: Sequence[int] = (8, 16, 32, 64), num_units: int = 128, update_mode: str = 'top1',
                 write_target: str = 'published', assigner: dict | None = None, track_jitter: float = 0.05,
                 test_cfg: dict | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.num_classes, self.strides, self.write_target = num_classes, tuple(strides), write_target
        channels = in_channels
        self.cls_convs = conv_tower(channels, stacked_convs - 1, last_relu=False)
        self.mask_convs = conv_tower(channels, stacked_convs)
        self.track_convs = conv_tower(channels, stacked_convs - 1)
        self.fcos_cls = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.fcos_reg = nn.Conv2d(2 * channels, 8, 3, padding=1)
        self.fcos_centerness = nn.Conv2d(channels, 1, 3, padding=1)
        self.track_fuse = nn.Conv2d(_FINE_LEVELS * channels, channels, 1)
        self.mask_fuse = nn.Conv2d(_FINE_LEVELS * channels, channels, 1)
        # part of the checkpoint; they only steer detached offsets, so they never learn
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.strides).requires_grad_(False)
        self.cls_align = FeatureAlign(2 * channels, channels)
        self.mask_align = FeatureAlign(channels, channels)
        self.mem = CNPMemory(channels, num_units, update_mode=update_mode)
        init_dense_head(self, self.fcos_cls)
        self.criterion = CNPContrastLoss(num_classes, assigner or dict(type='UncertaintyAssigner'), track_jitter)
        self.predictor = CNPContrastPredictor(**(test_cfg or {}))

    def forward(self, feats: Sequence[Tensor], targets: PaddedTargets | None = None) -> CNPMaps:
        """Pyramid maps (B, C, h_l, w_l) → maps; given ground truth, the memory is written on the way (training)."""
        feats = feats[:len(self.strides)]
        size = (feats[0].shape[2] * self.strides[0], feats[0].shape[3] * self.strides[0])
        level_sizes = [tuple(feat.shape[-2:]) for feat in feats]
        points = pyramid_points(level_sizes, self.strides, feats[0].device)
        writes = [()] * len(feats)
        if targets is not None:
            counts = [height * width for height, width in level_sizes]
            written = write_targets(points, targets.bboxes, targets.valid, size, self.write_target)
            writes = zip(*(part.split(counts, dim=1) for part in written))
        outputs = [self._level(feat, level, size, *write) for level, (feat, write) in enumerate(zip(feats, writes))]
        cls_logits, regression, centerness, masks = zip(*outputs)
        regression = flatten_levels(regression)
        return CNPMaps(
            cls_logits=flatten_levels(cls_logits), centerness=flatten_levels(centerness).squeeze(-1),
            means=regression[..., :4].sigmoid(), sigmas=0.1 + 0.9 * F.softplus(regression[..., 4:]),
            track=self.forward_track(feats), coarse_mask=fuse_levels(masks[:_FINE_LEVELS], self.mask_fuse),
            points=points, level_sizes=level_sizes, size=size)

    def _level(self, feat: Tensor, level: int, size: tuple[int, int],
               *write: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """One level; ``write`` is what the memory is given to write, see :class:`CNPMemory`.

        Returns:
            class logits (B, K, h, w), regression (B, 8, h, w), centerness (B, 1, h, w), aligned mask feature
            (B, C, h, w).
        """
        stride = self.strides[level]
        cls_feat, mask_feat = self.cls_convs(feat), self.mask_convs(feat)
        context = self.mem(cls_feat, *write)
        joint = torch.cat([cls_feat, context.to(cls_feat.dtype)], dim=1)  # (B, 2C, h, w)
        regression = self.fcos_reg(joint)
        height, width = size
        cells = device_constant((width / stride, height / stride) * 2, feat.device).view(1, 4, 1, 1)
        boxes = self.scales[level](regression[:, :4].detach().sigmoid() * cells)
        cls_logits = self.fcos_cls(self.cls_align(joint, boxes))
        aligned = self.mask_align(mask_feat, boxes) if level < _FINE_LEVELS else None
        return cls_logits, regression, self.fcos_centerness(mask_feat), aligned

    def forward_track(self, feats: Sequence[Tensor]) -> Tensor:
        """Track map (B, C, H/8, W/8) of the pyramid's first three levels; in training also for the reference frames."""
        return fuse_levels([self.track_convs(feat) for feat in feats[:_FINE_LEVELS]], self.track_fuse)

    def loss(self, feats: Sequence[Tensor], ref_feats: Sequence[Tensor],
             data_samples: Sequence[TrackDataSample]) -> dict[str, Tensor]:
        """Losses of key frames (frame 0 of each clip) with reference frames (frame 1); see :class:`CNPContrastLoss`."""
        targets = PaddedTargets.from_instances([clip[0].gt_instances for clip in data_samples])
        references = PaddedTargets.from_instances([clip[1].gt_instances for clip in data_samples], with_masks=False)
        maps = self(feats, targets)
        ref_track = self.forward_track(ref_feats)
        with torch.autocast(maps.track.device.type, enabled=False):
            return self.criterion(maps, ref_track.float(), targets, references)

    def detect(self, feats: Sequence[Tensor], geometry: FrameGeometry) -> DeviceDetections:
        """Detections of frames of one geometry, on the device; ``predictor.collect`` makes results of them."""
        maps = self(feats)
        with torch.autocast(maps.track.device.type, enabled=False):
            return self.predictor.detect(maps, geometry)
