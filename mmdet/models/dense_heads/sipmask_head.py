"""The SipMask-VIS head (Cao et al., ECCV 2020, section 3): FCOS, mask coefficients for parts of a box, and a track map.

Called by the detector ``SipMask``. :meth:`SipMaskHead.forward` computes the raw outputs (sections 3.1 and 3.2),
:meth:`~SipMaskHead.loss` the training losses (3.3), :meth:`~SipMaskHead.predict` the detections.

Symbols: B images, K classes, H×W padded input, levels of strides 8, 16, … , N locations of all levels, q = 4 parts of a
box, each with separate coefficients for the M = 32 basis masks, G padded objects, R padded reference objects, P slots
of the mask loss, S candidates, D detections per frame.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmcv.cnn import Scale
from torch import Tensor, nn

from mmdet.arguments import checked_number, checked_positive
from mmdet.errors import UserError
from mmdet.models.dense_heads.base_dense_head import (
    MASK_STRIDE,
    BaseDenseHead,
    DeviceDetections,
    FrameGeometry,
    TestSettings,
)
from mmdet.models.dense_heads.fcos_head import fcos_losses
from mmdet.models.layers.conv_tower import conv_tower
from mmdet.models.layers.feature_align import FeatureAlign
from mmdet.models.layers.instance_masks import split_masks
from mmdet.models.layers.pyramid import flatten_levels, fuse_levels
from mmdet.models.losses.coefficient_mask import box_mask_loss, kept_slots
from mmdet.models.task_modules.box_convention import BoxConvention
from mmdet.models.task_modules.fast_nms import fast_nms, rescore_by_masks
from mmdet.models.task_modules.fcos_targets import default_regress_ranges, fcos_targets
from mmdet.models.task_modules.padded_targets import PaddedTargets
from mmdet.models.task_modules.points import (
    Grid,
    distance2bbox,
    drop_padding,
    gather_rows,
    jitter_boxes,
    sample_at_centers,
    topk_per_level,
)
from mmdet.ops.device import device_constant
from mmdet.ops.resize import resize
from mmdet.registry import MODELS
from mmdet.structures import aligned_legacy_box_iou

_FINE_LEVELS = 3  # levels from which the mask bases and the track map are computed
NUM_BASES = 32  # M
NUM_PARTS = 2  # rows and columns of parts of a box
MIN_MASK_AREA = 1  # in half-resolution pixels; boxes of at most this area are excluded from the mask and track losses
_FUSED_CHANNELS = 512  # of the track map, and of the mask bases' hidden layer


@dataclass
class SipMaskOutputs:
    """Raw outputs of the head for a batch of frames.

    Attributes:
        cls_logits: (B, N, K) float32.
        centerness: (B, N) logits, float32.
        distances: (B, N, 4) l, t, r, b from the location to the sides of the box in pixels; may be negative.
        coefficients: (B, N, q·M), ordered by part: top left, top right, bottom left, bottom right.
        bases: (B, M, H/2, W/2), non-negative.
        track: (B, 512, H/8, W/8).
        ref_track: the track map of the reference frames, in training; else None.
        grid: the locations.
    """

    cls_logits: Tensor
    centerness: Tensor
    distances: Tensor
    coefficients: Tensor
    bases: Tensor
    track: Tensor
    ref_track: Tensor | None
    grid: Grid


@MODELS.register_module()
class SipMaskHead(BaseDenseHead):
    """Dense head with spatially split mask coefficients.

    Args:
        num_classes: K.
        in_channels: channels of the pyramid's maps and of all branches; a multiple of 32.
        stacked_convs: convolutions of the box tower; class and track towers have one fewer.
        strides: strides of the levels used, at least three; further levels are ignored.
        center_radius: only locations within ``center_radius`` strides of the centre of an object are positive.
        track_jitter: in training, reference boxes are shifted randomly by up to this fraction of their size before
            their embeddings are sampled.
        test_cfg: see :class:`TestSettings`; ``score_thr`` applies to class · centerness.
    """

    def __init__(self, num_classes: int, in_channels: int = 256, stacked_convs: int = 3,
                 strides: Sequence[int] = (8, 16, 32, 64, 128), center_radius: float = 1.5, track_jitter: float = 0.05,
                 test_cfg: dict | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if len(strides) < _FINE_LEVELS:
            raise UserError(f'SipMaskHead strides={list(strides)} are too few; set at least {_FINE_LEVELS}')
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
        self.sip_cof = nn.Conv2d(channels, NUM_PARTS ** 2 * NUM_BASES, 3, padding=1)
        self.sip_mask_lat0 = nn.Conv2d(_FINE_LEVELS * channels, _FUSED_CHANNELS, 1)
        self.sip_mask_lat = nn.Conv2d(_FUSED_CHANNELS, NUM_BASES, 3, padding=1)
        self.init_branches(self.fcos_cls)
        nn.init.zeros_(self.feat_align.conv_offset.weight)
        self.sipmask_track = nn.Conv2d(_FINE_LEVELS * channels, _FUSED_CHANNELS, 1)
        self.regress_ranges = default_regress_ranges(len(self.strides))
        self.center_radius = checked_positive('SipMaskHead center_radius', center_radius)
        self.track_jitter = checked_number('SipMaskHead track_jitter', track_jitter, 0)
        self.test_settings = TestSettings.of('SipMaskHead', test_cfg, nms_pre=200, score_thr=0.03, nms_thr=0.5,
                                             max_per_img=10, quality_exponent=0.0)
        self.convention = BoxConvention(legacy=True)  # x2 and y2 are inclusive: at most W − 1 and H − 1

    # -----------------------------------------------------------------------------------------------------------------
    # Network (sections 3.1 and 3.2)

    def forward(self, feats: Sequence[Tensor], targets: PaddedTargets | None = None) -> SipMaskOutputs:
        """Compute the raw outputs.

        Args:
            feats: pyramid maps (B, C, h_l, w_l); with targets (2·B, C, h_l, w_l), of B key frames, then their reference
                frames, for which only the track map is computed.
            targets: objects of the key frames, in training; only their batch size is used.
        """
        feats = feats[:len(self.strides)]
        batch = len(feats[0]) if targets is None else len(targets)
        keys = [feat[:batch] for feat in feats]
        grid = Grid.of(keys, self.strides)
        box_feats = [self.reg_convs(feat) for feat in keys]  # (B, C, h, w)
        raw = [scale(self.fcos_reg(feat)) for scale, feat in zip(self.scales, box_feats)]  # (B, 4, h, w), in strides
        aligned = [self.feat_align(self.cls_convs(feat), boxes.detach()) for feat, boxes in zip(keys, raw)]
        hidden = fuse_levels(box_feats[:_FINE_LEVELS], self.sip_mask_lat0).relu()  # (B, 512, H/8, W/8)
        lateral = self.sip_mask_lat(hidden).relu().contiguous(memory_format=torch.channels_last)  # resized faster
        bases = resize(lateral, 4)
        return SipMaskOutputs(
            cls_logits=flatten_levels([self.fcos_cls(feat) for feat in aligned]),
            centerness=flatten_levels([self.fcos_centerness(feat) for feat in box_feats]).squeeze(-1),
            distances=flatten_levels([boxes * stride for boxes, stride in zip(raw, self.strides)]),
            coefficients=flatten_levels([self.sip_cof(feat) for feat in aligned]), bases=bases,
            track=self._track_map(keys),
            ref_track=None if targets is None else self._track_map([feat[batch:] for feat in feats]), grid=grid)

    def _track_map(self, feats: Sequence[Tensor]) -> Tensor:
        return fuse_levels([self.track_convs(feat) for feat in feats[:_FINE_LEVELS]], self.sipmask_track)

    # -----------------------------------------------------------------------------------------------------------------
    # Training (section 3.3)

    def loss(self, feats: Sequence[Tensor], targets: PaddedTargets,
             references: PaddedTargets | None = None) -> dict[str, Tensor]:
        """Compute the losses of key and reference frames; see the base class and :meth:`criterion`."""
        outputs = self.forward(feats, targets)
        assert references is not None
        with torch.autocast(outputs.track.device.type, enabled=False):
            return self.criterion(outputs, targets, references)

    def criterion(self, outputs: SipMaskOutputs, targets: PaddedTargets,
                  references: PaddedTargets) -> dict[str, Tensor]:
        """Compute five losses and the matching accuracy.

        All are finite and differentiable even without ground truth, positive locations or kept boxes. All locations of
        an image without ground truth are background.

        Args:
            outputs: raw outputs for key and reference frames.
            targets, references: objects of the key frames and of the reference frames.
        """
        grid = outputs.grid
        assigned = fcos_targets(grid.points, grid.level_sizes, self.strides, self.regress_ranges, targets,
                                self.center_radius)
        bboxes = distance2bbox(grid.points, outputs.distances)  # (B, N, 4), not clipped
        losses = fcos_losses(outputs.cls_logits, bboxes, outputs.centerness, assigned, targets)

        bboxes = bboxes.detach()
        sides = (bboxes[..., 2:] - bboxes[..., :2]) / MASK_STRIDE
        kept = assigned.positive & (sides > 0).all(dim=-1) & (sides.prod(dim=-1) > MIN_MASK_AREA)
        index = kept_slots(kept)  # (B, P)
        kept, slot_gt = kept.gather(1, index), assigned.gt.gather(1, index)
        bboxes = gather_rows(bboxes, index)
        losses['loss_mask'] = self._masks(outputs, index, bboxes, kept, slot_gt, targets)
        return losses | self._tracking(outputs, bboxes, kept, slot_gt, targets, references)

    def _masks(self, outputs: SipMaskOutputs, index: Tensor, bboxes: Tensor, kept: Tensor, slot_gt: Tensor,
               targets: PaddedTargets) -> Tensor:
        """Compute the mask loss of the slots, weighted by class confidence · IoU⁺ of the box."""
        halved = bboxes / MASK_STRIDE
        gt_bboxes, gt_labels = gather_rows(targets.gt_bboxes, slot_gt), targets.gt_labels.gather(1, slot_gt)
        logits = gather_rows(outputs.cls_logits.detach(), index)  # (B, P, K)
        confidence = logits.gather(2, gt_labels[..., None]).squeeze(2).sigmoid()
        quality = aligned_legacy_box_iou(gt_bboxes / MASK_STRIDE, halved) * confidence
        assert targets.gt_masks is not None
        gt_masks = F.interpolate(targets.gt_masks.float(), scale_factor=1 / MASK_STRIDE, mode='bilinear',
                                 align_corners=False) > 0.5  # (B, G, H/2, W/2)
        coefficients = gather_rows(outputs.coefficients, index)
        return box_mask_loss(outputs.bases, coefficients, halved, kept, gt_masks, slot_gt, quality,
                             parts=NUM_PARTS).mean()

    def _tracking(self, outputs: SipMaskOutputs, bboxes: Tensor, kept: Tensor, slot_gt: Tensor, targets: PaddedTargets,
                  references: PaddedTargets) -> dict[str, Tensor]:
        """Compute the cross-entropy of each slot over "no match" and its dot products with all reference objects."""
        assert outputs.ref_track is not None
        queries = sample_at_centers(outputs.track.float(), bboxes)  # (B, P, C)
        keys = sample_at_centers(outputs.ref_track.float(), jitter_boxes(references.gt_bboxes, self.track_jitter))
        similarity = (queries @ keys.transpose(1, 2)).masked_fill(~references.valid[:, None], -torch.inf)
        logits = F.pad(similarity, (1, 0))  # (B, P, 1 + R)
        match = targets.match(references).gather(1, slot_gt)  # (B, P)
        count = kept.sum(dim=1)
        error = F.cross_entropy(logits.flatten(0, 1), match.flatten(), reduction='none').view_as(match)
        right = (logits.argmax(dim=2) == match) & kept
        return dict(loss_match=((error * kept).sum(dim=1) / count.clamp(min=1)).mean(),
                    match_acc=100 * right.sum() / count.sum().clamp(min=1))

    # -----------------------------------------------------------------------------------------------------------------
    # Testing

    def predict(self, feats: Sequence[Tensor], geometries: Sequence[FrameGeometry],
                state: Tensor | None = None) -> DeviceDetections:
        """Detect objects in B frames of equal geometry; see the base class."""
        outputs = self.forward(feats)
        with torch.autocast(outputs.track.device.type, enabled=False):
            return self.detect(outputs, geometries)

    def detect(self, outputs: SipMaskOutputs, geometries: Sequence[FrameGeometry]) -> DeviceDetections:
        """Convert the raw outputs to detections."""
        shapes = device_constant(geometries[0].img_shape, outputs.track.device).expand(len(outputs.track), 2)
        return self.finish(self.select(outputs, shapes), geometries)

    def select(self, outputs: SipMaskOutputs, shapes: Tensor) -> tuple[Tensor, ...]:
        """Select candidates per level, apply Fast NMS, compute masks and track embeddings.

        Returns:
            Rows (B, D, …), see :class:`DeviceDetections`, and mask probabilities (B, D, H/2, W/2).
        """
        settings = self.test_settings
        centerness = outputs.centerness.sigmoid()
        index = topk_per_level(outputs.cls_logits.amax(dim=2).sigmoid() * centerness, outputs.grid.level_sizes,
                               settings.nms_pre)  # (B, S)
        scores = gather_rows(outputs.cls_logits, index).sigmoid() * centerness.gather(1, index)[..., None]  # (B, S, K)
        scores = drop_padding(scores, outputs.grid.level_sizes, settings.nms_pre)
        bboxes = distance2bbox(outputs.grid.points[index], gather_rows(outputs.distances, index))
        bboxes = self.convention.clip(bboxes, shapes)
        # since distances may be negative, drop boxes with x2 < x1 or y2 < y1
        scores = scores * (bboxes[..., :2] <= bboxes[..., 2:]).all(dim=-1, keepdim=True)
        found = fast_nms(bboxes, scores, settings.nms_thr, settings.score_thr, settings.max_per_img, settings.nms_pre,
                         settings.agnostic)
        coefficients = gather_rows(outputs.coefficients, index.gather(1, found.index))  # (B, D, q·M)
        masks = split_masks(outputs.bases, coefficients, found.bboxes / MASK_STRIDE, NUM_PARTS)
        if settings.quality_exponent:
            found, masks = rescore_by_masks(found, masks, settings.quality_exponent)
        embeddings = sample_at_centers(outputs.track, found.bboxes)  # (B, D, C)
        rows = torch.cat([found.bboxes, found.scores[..., None], found.labels[..., None], embeddings.float()], dim=-1)
        return rows, masks
