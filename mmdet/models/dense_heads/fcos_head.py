"""FCOS (Tian et al., ICCV 2019): every location predicts a class, the distances to the sides of a box, and centerness.

Called by the detector ``FCOS``. :meth:`FCOSHead.forward` computes the raw outputs (section 3.1), :meth:`~FCOSHead.loss`
the training losses (3.1 and 3.2; :func:`fcos_losses` is also used by the SipMask head), :meth:`~FCOSHead.predict` the
detections.

Symbols: B images, K classes, N locations of all levels in level order, G padded objects, S candidates, D detections per
image.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmcv.cnn import Scale
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from mmdet.arguments import checked_positive
from mmdet.errors import UserError, counted
from mmdet.models.dense_heads.base_dense_head import (
    BaseDenseHead,
    DeviceDetections,
    FrameGeometry,
    TestSettings,
)
from mmdet.models.layers.conv_tower import conv_tower
from mmdet.models.layers.pyramid import flatten_levels
from mmdet.models.task_modules.box_convention import BoxConvention
from mmdet.models.task_modules.fcos_targets import FCOSTargets, default_regress_ranges, fcos_targets
from mmdet.models.task_modules.padded_targets import PaddedTargets
from mmdet.models.task_modules.points import Grid, distance2bbox, drop_padding, gather_rows, topk_per_level
from mmdet.registry import MODELS
from mmdet.structures import aligned_legacy_box_iou, giou_loss

BOX_LOSSES = ('iou', 'giou')
MIN_IOU = 1e-6  # lower bound of the IoU in the logarithm of the IoU loss
_MAX_LOG_DISTANCE = 12.0  # exp(12) pixels is larger than any image; a larger exponent could overflow


@dataclass
class FCOSOutputs:
    """Raw outputs of the head for a batch of images.

    Attributes:
        cls_logits: (B, N, K) float32.
        centerness: (B, N) logits, float32.
        bboxes: (B, N, 4) in pixels of the input, not clipped.
        grid: the locations.
    """

    cls_logits: Tensor
    centerness: Tensor
    bboxes: Tensor
    grid: Grid


def fcos_losses(cls_logits: Tensor, bboxes: Tensor, centerness: Tensor, assigned: FCOSTargets, targets: PaddedTargets,
                box_loss: str = 'iou') -> dict[str, Tensor]:
    """Compute ``loss_cls``, ``loss_bbox`` and ``loss_centerness``.

    They are finite and differentiable even without positive locations.

    Args:
        cls_logits: (B, N, K).
        bboxes: (B, N, 4) decoded boxes in pixels.
        centerness: (B, N) logits.
        assigned: targets of the locations.
        targets: objects of the batch.
        box_loss: ``'iou'``: −ln IoU⁺, as published (IoU⁺: x2, y2 inclusive); ``'giou'``: 1 − GIoU. Both are weighted
            by the centerness target.
    """
    positive = assigned.positive  # (B, N)
    num_positive = positive.sum()
    gt_labels = targets.gt_labels.gather(1, assigned.gt)
    onehot = (F.one_hot(gt_labels, cls_logits.shape[2]) * positive[..., None]).to(cls_logits.dtype)
    gt_bboxes = gather_rows(targets.gt_bboxes, assigned.gt)  # (B, N, 4)
    # replace boxes of other locations, whose weight is 0, by their targets, so that gradients stay finite
    predicted = torch.where(positive[..., None], bboxes, gt_bboxes)
    if box_loss == 'iou':
        error = -aligned_legacy_box_iou(predicted, gt_bboxes).clamp(min=MIN_IOU).log()
    else:
        error = giou_loss(predicted, gt_bboxes)
    weight = assigned.centerness
    centerness_error = F.binary_cross_entropy_with_logits(centerness, weight, reduction='none')
    return dict(
        loss_cls=sigmoid_focal_loss(cls_logits, onehot, reduction='sum') / (num_positive + len(cls_logits)),
        loss_bbox=(error * weight).sum() / weight.sum().clamp(min=MIN_IOU),
        loss_centerness=(centerness_error * positive).sum() / num_positive.clamp(min=1))


@MODELS.register_module()
class FCOSHead(BaseDenseHead):
    """Dense head of FCOS, by default as first published.

    ``center_radius``, ``centerness_on_reg``, ``norm_on_bbox`` and ``box_loss`` are the authors' later improvements.

    Args:
        num_classes: K.
        in_channels: channels of the pyramid's maps and of the towers; a multiple of 32.
        stacked_convs: convolutions of each tower.
        strides: strides of the levels used; further levels are ignored.
        regress_ranges: for each level, the smallest and largest distance in pixels from a location to the farthest side
            of its box; [−1, 64], [64, 128], … by default, the last without upper bound.
        center_radius: only locations within ``center_radius`` strides of the centre of an object are positive (usually
            1.5); None: all locations in its box.
        centerness_on_reg: predict centerness from the box tower instead of the class tower.
        norm_on_bbox: distances are stride · ReLU(scale · x) instead of exp(scale · x).
        box_loss: ``'iou'`` or ``'giou'``, see :func:`fcos_losses`.
        test_cfg: see :class:`TestSettings`; ``score_thr`` applies to the class probability alone.
    """

    selected = ('bboxes', 'probabilities', 'centerness')

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
            raise UserError(f'FCOSHead has {len(self.regress_ranges)} regress_ranges for '
                            f'{counted(len(self.strides), "stride")}; set one per level, or omit regress_ranges')
        if center_radius is not None:
            checked_positive('FCOSHead center_radius', center_radius)
        self.center_radius, self.centerness_on_reg = center_radius, centerness_on_reg
        self.norm_on_bbox, self.box_loss = norm_on_bbox, box_loss
        self.cls_convs = conv_tower(in_channels, stacked_convs)
        self.reg_convs = conv_tower(in_channels, stacked_convs)
        self.fcos_cls = nn.Conv2d(in_channels, num_classes, 3, padding=1)
        self.fcos_reg = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.fcos_centerness = nn.Conv2d(in_channels, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.strides)
        self.init_branches(self.fcos_cls)
        self.test_settings = TestSettings.of('FCOSHead', test_cfg, nms_pre=1000, score_thr=0.05, nms_thr=0.5,
                                             max_per_img=100)
        self.convention = BoxConvention(legacy=True)  # as published

    def forward(self, feats: Sequence[Tensor], targets: PaddedTargets | None = None) -> FCOSOutputs:
        """Compute the raw outputs of pyramid maps (B, C, h_l, w_l); ``targets`` is not used."""
        feats = feats[:len(self.strides)]
        grid = Grid.of(feats, self.strides)
        cls_feats, box_feats = [self.cls_convs(feat) for feat in feats], [self.reg_convs(feat) for feat in feats]
        raw = [scale(self.fcos_reg(feat).float()) for scale, feat in zip(self.scales, box_feats)]  # (B, 4, h, w)
        if self.norm_on_bbox:
            distances = [level.relu() * stride for level, stride in zip(raw, self.strides)]
        else:
            distances = [level.clamp(max=_MAX_LOG_DISTANCE).exp() for level in raw]
        centerness = [self.fcos_centerness(feat) for feat in (box_feats if self.centerness_on_reg else cls_feats)]
        return FCOSOutputs(
            cls_logits=flatten_levels([self.fcos_cls(feat) for feat in cls_feats]),
            centerness=flatten_levels(centerness).squeeze(-1),
            bboxes=distance2bbox(grid.points, flatten_levels(distances)), grid=grid)

    def loss(self, feats: Sequence[Tensor], targets: PaddedTargets,
             references: PaddedTargets | None = None) -> dict[str, Tensor]:
        """Compute ``loss_cls``, ``loss_bbox``, ``loss_centerness`` of B images; see :func:`fcos_losses`."""
        outputs = self.forward(feats, targets)
        with torch.autocast(outputs.bboxes.device.type, enabled=False):
            assigned = fcos_targets(outputs.grid.points, outputs.grid.level_sizes, self.strides, self.regress_ranges,
                                    targets, self.center_radius)
            return fcos_losses(outputs.cls_logits, outputs.bboxes, outputs.centerness, assigned, targets,
                               self.box_loss)

    def predict(self, feats: Sequence[Tensor], geometries: Sequence[FrameGeometry],
                state: Tensor | None = None) -> DeviceDetections:
        """Detect objects in B images, whose geometries may differ; see the base class."""
        outputs = self.forward(feats)
        with torch.autocast(outputs.bboxes.device.type, enabled=False):
            return self.detect(outputs, geometries)

    def detect(self, outputs: FCOSOutputs, geometries: Sequence[FrameGeometry]) -> DeviceDetections:
        """Convert the raw outputs to detections."""
        shapes = torch.tensor([geometry.img_shape for geometry in geometries])
        return self.finish(self.select(outputs, shapes.to(outputs.bboxes.device, non_blocking=True)), geometries)

    def select(self, outputs: FCOSOutputs, shapes: Tensor) -> tuple[Tensor, ...]:
        """Select candidates per level.

        Returns:
            Boxes (B, S, 4), class probabilities (B, S, K) and centerness (B, S).
        """
        centerness = outputs.centerness.sigmoid()
        index = topk_per_level(outputs.cls_logits.amax(dim=2).sigmoid() * centerness, outputs.grid.level_sizes,
                               self.test_settings.nms_pre)  # (B, S)
        probabilities = gather_rows(outputs.cls_logits, index).sigmoid()  # (B, S, K)
        probabilities = drop_padding(probabilities, outputs.grid.level_sizes, self.test_settings.nms_pre)
        bboxes = self.convention.clip(gather_rows(outputs.bboxes, index), shapes)  # (B, S, 4)
        return bboxes, probabilities, centerness.gather(1, index)

    def finish(self, selected: Sequence[Tensor], geometries: Sequence[FrameGeometry]) -> DeviceDetections:
        """Drop low scores, apply NMS, which has no fixed number of steps."""
        settings = self.test_settings
        bboxes, probabilities, centerness = selected
        num_classes = probabilities.shape[2]
        chosen = probabilities > settings.score_thr
        if settings.agnostic:
            chosen &= F.one_hot(probabilities.argmax(dim=2), num_classes).bool()
        image, candidate, label = chosen.nonzero(as_tuple=True)
        scores = probabilities[image, candidate, label] * centerness[image, candidate]
        group = image if settings.agnostic else image * num_classes + label
        kept = self.convention.nms(bboxes[image, candidate], scores, group, settings.nms_thr)
        survivors = torch.zeros_like(probabilities)
        survivors[image[kept], candidate[kept], label[kept]] = scores[kept]
        best, position = survivors.flatten(1).topk(min(settings.max_per_img, survivors[0].numel()))  # (B, D)
        return DeviceDetections(torch.cat([gather_rows(bboxes, position // num_classes), best[..., None],
                                           (position % num_classes)[..., None]], dim=-1))
