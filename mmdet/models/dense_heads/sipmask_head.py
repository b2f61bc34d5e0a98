"""The SipMask-VIS head (Cao et al., ECCV 2020, section 3): FCOS, mask coefficients for parts of a box, a track map.

Called by the detector ``SipMask``: ``loss`` in training, ``detect`` in testing. The losses are in ``sipmask_loss.py``,
the way from maps to detections in ``sipmask_predict.py``.

Symbols: B images, K classes, H×W padded input, levels of strides 8, 16, … , N locations of all levels, q = 4 parts of a
box, each with coefficients of its own for the M = 32 mask bases.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmcv.cnn import Scale
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserError
from mmdet.models.dense_heads.clip_predictor import DeviceDetections, FrameGeometry
from mmdet.models.dense_heads.sipmask_loss import SipMaskLoss
from mmdet.models.dense_heads.sipmask_predict import SipMaskPredictor
from mmdet.models.layers.conv_tower import conv_tower, init_dense_head
from mmdet.models.layers.feature_align import FeatureAlign
from mmdet.models.layers.pyramid import flatten_levels, fuse_levels
from mmdet.models.layers.training_graphs import TrainingGraphs
from mmdet.models.task_modules.padded_targets import PaddedTargets
from mmdet.models.task_modules.points import pyramid_points
from mmdet.ops.resize import resize
from mmdet.registry import MODELS
from mmdet.structures import TrackDataSample

_FINE_LEVELS = 3  # levels that feed the mask bases and the track map
NUM_BASES = 32
NUM_SPLITS = 2  # rows and columns of parts of a box
_FUSED_CHANNELS = 512  # of the track map, and of the mask bases' hidden layer


@dataclass
class SipMaskMaps:
    """What the head says about a batch of frames.

    Attributes:
        cls_logits: (B, N, K) float32. centerness: (B, N) logits, float32.
        distances: (B, N, 4) l, t, r, b from the location to the sides of the box in pixels; may be negative.
        coefficients: (B, N, q·M), part by part: top left, top right, bottom left, bottom right.
        bases: (B, M, H/2, W/2), non-negative. track: (B, 512, H/8, W/8).
        points: (N, 2) x, y of the locations in pixels. level_sizes: (h, w) of each level.
    """

    cls_logits: Tensor
    centerness: Tensor
    distances: Tensor
    coefficients: Tensor
    bases: Tensor
    track: Tensor
    points: Tensor
    level_sizes: list[tuple[int, int]]


@MODELS.register_module()
class SipMaskHead(BaseModule):
    """Dense head with spatially split mask coefficients.

    Args:
        num_classes: K.
        in_channels: of the pyramid's maps and of all branches; a multiple of 32.
        stacked_convs: convolutions of the box tower; class and track towers have one fewer.
        strides: of the levels; levels beyond are ignored. At least three.
        center_radius: locations within so many strides of a box's centre learn the object.
        track_jitter: share of its size by which a reference box is shifted at random in training.
        test_cfg: ``nms_pre, score_thr, nms_thr, max_per_img``, see :class:`SipMaskPredictor`.
    """

    def __init__(self, num_classes: int, in_channels: int = 256, stacked_convs: int = 3,
                 strides: Sequence[int] = (8, 16, 32, 64, 128), center_radius: float = 1.5, track_jitter: float = 0.05,
                 test_cfg: dict | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if len(strides) < _FINE_LEVELS:
            raise UserError(f'SipMaskHead strides={list(strides)} are too few; give at least {_FINE_LEVELS}')
        self.strides = tuple(strides)
        channels = in_channels
        self.cls_convs = conv_tower(channels, stacked_convs - 1)
        self.reg_convs = conv_tower(channels, stacked_convs)
        self.track_convs = conv_tower(channels, stacked_convs - 1)
        self.fcos_cls = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.fcos_reg = nn.Conv2d(channels, 4, 3, padding=1)
        self.fcos_centerness = nn.Conv2d(channels, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.strides)
        self.feat_align = FeatureAlign(channels, channels)
        self.sip_cof = nn.Conv2d(channels, NUM_SPLITS ** 2 * NUM_BASES, 3, padding=1)
        self.sip_mask_lat0 = nn.Conv2d(_FINE_LEVELS * channels, _FUSED_CHANNELS, 1)
        self.sip_mask_lat = nn.Conv2d(_FUSED_CHANNELS, NUM_BASES, 3, padding=1)
        init_dense_head(self, self.fcos_cls)
        nn.init.zeros_(self.feat_align.conv_offset.weight)
        self.sipmask_track = nn.Conv2d(_FINE_LEVELS * channels, _FUSED_CHANNELS, 1)
        self.criterion = SipMaskLoss(self.strides, NUM_SPLITS, center_radius, track_jitter)
        self.predictor = SipMaskPredictor(NUM_SPLITS, **(test_cfg or {}))

    def forward(self, feats: Sequence[Tensor]) -> SipMaskMaps:
        """Pyramid maps (B, C, h_l, w_l) → maps."""
        feats = feats[:len(self.strides)]
        box_feats = [self.reg_convs(feat) for feat in feats]
        raw = [scale(self.fcos_reg(feat)) for scale, feat in zip(self.scales, box_feats)]
        aligned = [self.feat_align(self.cls_convs(feat), boxes.detach()) for feat, boxes in zip(feats, raw)]
        hidden = fuse_levels(box_feats[:_FINE_LEVELS], self.sip_mask_lat0).relu()
        bases = resize(self.sip_mask_lat(hidden).relu(), 4)
        level_sizes = [tuple(feat.shape[-2:]) for feat in feats]
        return SipMaskMaps(
            cls_logits=flatten_levels([self.fcos_cls(feat) for feat in aligned]),
            centerness=flatten_levels([self.fcos_centerness(feat) for feat in box_feats]).squeeze(-1),
            distances=flatten_levels([boxes * stride for boxes, stride in zip(raw, self.strides)]),
            coefficients=flatten_levels([self.sip_cof(feat) for feat in aligned]), bases=bases,
            track=self.forward_track(feats), points=pyramid_points(level_sizes, self.strides, feats[0].device),
            level_sizes=level_sizes)

    def forward_track(self, feats: Sequence[Tensor]) -> Tensor:
        """Track map (B, 512, H/8, W/8) of the first three levels; in training also for the reference frames."""
        return fuse_levels([self.track_convs(feat) for feat in feats[:_FINE_LEVELS]], self.sipmask_track)

    def loss(self, feats: Sequence[Tensor], data_samples: Sequence[TrackDataSample],
             graphs: TrainingGraphs | None = None) -> dict[str, Tensor]:
        """Losses of key frames (frame 0 of each clip) with reference frames (frame 1); see :class:`SipMaskLoss`.

        Args:
            feats: pyramid maps (2·N, C, h_l, w_l) of all key frames, then all reference frames.
            data_samples: N clips.
            graphs: not used: no part of this head has a fixed shape and is worth a graph.
        """
        targets = PaddedTargets.from_instances([clip[0].gt_instances for clip in data_samples])
        references = PaddedTargets.from_instances([clip[1].gt_instances for clip in data_samples], with_masks=False)
        keys, ref_feats = zip(*(feat.chunk(2) for feat in feats))
        maps = self(keys)
        ref_track = self.forward_track(ref_feats)
        with torch.autocast(maps.track.device.type, enabled=False):
            return self.criterion(maps, ref_track.float(), targets, references)

    def detect(self, feats: Sequence[Tensor], geometry: FrameGeometry) -> DeviceDetections:
        """Detections of frames of one geometry, on the device; ``predictor.collect`` makes results of them."""
        maps = self(feats)
        with torch.autocast(maps.track.device.type, enabled=False):
            return self.predictor.detect(maps, geometry)
