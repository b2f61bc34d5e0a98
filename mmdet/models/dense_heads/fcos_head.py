"""FCOS (Tian et al., ICCV 2019): every location predicts a class, the distances to the sides of its box, a centerness.

Called by the detector ``FCOS``: ``loss`` in training, ``predict`` in testing. Targets, losses, towers and the choice of
candidates are those that SipMask and MemCNP use.

Symbols: B images, K classes, N locations of all levels in level order.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmcv.cnn import Scale
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.errors import UserError
from mmdet.models.dense_heads.fcos_loss import BOX_LOSSES, fcos_losses
from mmdet.models.dense_heads.fcos_predict import FCOSPredictor
from mmdet.models.layers.conv_tower import conv_tower, init_dense_head
from mmdet.models.layers.pyramid import flatten_levels
from mmdet.models.task_modules.fcos_targets import default_regress_ranges, fcos_targets
from mmdet.models.task_modules.map_sampling import boxes_from_distances
from mmdet.models.task_modules.padded_targets import PaddedTargets
from mmdet.models.task_modules.points import pyramid_points
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample

_MAX_LOG_DISTANCE = 12.0  # far beyond any image; the exponential of more would overflow


@dataclass
class FCOSMaps:
    """What the head says about a batch of images.

    Attributes:
        cls_logits: (B, N, K). centerness: (B, N) logits. Both float32.
        bboxes: (B, N, 4) in pixels of the input, not clipped. points: (N, 2) x, y of the locations in pixels.
        level_sizes: (h, w) of each level.
    """

    cls_logits: Tensor
    centerness: Tensor
    bboxes: Tensor
    points: Tensor
    level_sizes: list[tuple[int, int]]


@MODELS.register_module()
class FCOSHead(BaseModule):
    """The head. The defaults are the first publication's; the four options below are its authors' later improvements.

    Args:
        num_classes: K.
        in_channels: of the pyramid's maps and of the towers; a multiple of 32.
        stacked_convs: convolutions of each tower.
        strides: of the levels; levels beyond are ignored.
        regress_ranges: per level the smallest and largest distance to the farthest side of the boxes it learns, in
            pixels; [−1, 64], [64, 128], … by default, the last without upper end.
        center_radius: locations learn an object only within so many strides of its centre (1.5 is usual); None:
            anywhere in its box.
        centerness_on_reg: the centerness comes from the box tower instead of the class tower.
        norm_on_bbox: a distance is stride · ReLU(scale · x) instead of exp(scale · x).
        box_loss: ``'iou'`` or ``'giou'``, see :func:`fcos_losses`.
        test_cfg: ``nms_pre, score_thr, nms_thr, max_per_img``, see :class:`FCOSPredictor`.
    """

    def __init__(self, num_classes: int, in_channels: int = 256, stacked_convs: int = 4,
                 strides: Sequence[int] = (8, 16, 32, 64, 128),
                 regress_ranges: Sequence[tuple[float, float]] | None = None, center_radius: float | None = None,
                 centerness_on_reg: bool = False, norm_on_bbox: bool = False, box_loss: str = 'iou',
                 test_cfg: dict | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if box_loss not in BOX_LOSSES:
            raise UserError(f'FCOSHead box_loss={box_loss!r} is unknown; use one of {", ".join(BOX_LOSSES)}')
        self.strides = tuple(strides)
        self.regress_ranges = list(regress_ranges or default_regress_ranges(len(self.strides)))
        if len(self.regress_ranges) != len(self.strides):
            raise UserError(f'FCOSHead has {len(self.regress_ranges)} regress_ranges for {len(self.strides)} strides; '
                            'give one a level, or leave regress_ranges out')
        self.center_radius, self.centerness_on_reg = center_radius, centerness_on_reg
        self.norm_on_bbox, self.box_loss = norm_on_bbox, box_loss
        self.cls_convs = conv_tower(in_channels, stacked_convs)
        self.reg_convs = conv_tower(in_channels, stacked_convs)
        self.fcos_cls = nn.Conv2d(in_channels, num_classes, 3, padding=1)
        self.fcos_reg = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.fcos_centerness = nn.Conv2d(in_channels, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.strides)
        init_dense_head(self, self.fcos_cls)
        self.predictor = FCOSPredictor(**(test_cfg or {}))

    def forward(self, feats: Sequence[Tensor]) -> FCOSMaps:
        """Pyramid maps (B, C, h_l, w_l) → maps."""
        feats = feats[:len(self.strides)]
        cls_feats, box_feats = [self.cls_convs(feat) for feat in feats], [self.reg_convs(feat) for feat in feats]
        raw = [scale(self.fcos_reg(feat).float()) for scale, feat in zip(self.scales, box_feats)]
        if self.norm_on_bbox:
            distances = [level.relu() * stride for level, stride in zip(raw, self.strides)]
        else:
            distances = [level.clamp(max=_MAX_LOG_DISTANCE).exp() for level in raw]
        level_sizes = [tuple(feat.shape[-2:]) for feat in feats]
        points = pyramid_points(level_sizes, self.strides, feats[0].device)
        centerness = [self.fcos_centerness(feat) for feat in (box_feats if self.centerness_on_reg else cls_feats)]
        return FCOSMaps(
            cls_logits=flatten_levels([self.fcos_cls(feat) for feat in cls_feats]),
            centerness=flatten_levels(centerness).squeeze(-1),
            bboxes=boxes_from_distances(points, flatten_levels(distances)), points=points, level_sizes=level_sizes)

    def loss(self, feats: Sequence[Tensor], frames: Sequence[DetDataSample]) -> dict[str, Tensor]:
        """``loss_cls``, ``loss_bbox``, ``loss_centerness`` of B images; see :func:`fcos_losses`."""
        targets = PaddedTargets.from_instances([frame.gt_instances for frame in frames], with_masks=False)
        maps = self(feats)
        with torch.autocast(maps.bboxes.device.type, enabled=False):
            assigned = fcos_targets(maps.points, maps.level_sizes, self.strides, self.regress_ranges, targets,
                                    self.center_radius)
            return fcos_losses(maps.cls_logits, maps.bboxes, maps.centerness, assigned, targets, self.box_loss)

    def predict(self, feats: Sequence[Tensor], frames: Sequence[DetDataSample]) -> list[InstanceData]:
        """Detections of each image; see :class:`FCOSPredictor`."""
        maps = self(feats)
        with torch.autocast(maps.bboxes.device.type, enabled=False):
            return self.predictor(maps, frames)
