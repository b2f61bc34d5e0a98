"""Region proposal network (Faster R-CNN, section 3.1) over a feature pyramid; called by the two-stage detectors."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.models.task_modules.anchor_generator import AnchorGenerator
from mmdet.models.task_modules.box_convention import BoxConvention, DeltaCoder
from mmdet.models.task_modules.parallel_nms import parallel_nms
from mmdet.registry import MODELS, TASK_UTILS

_NMS_STEPS = 20  # of the NMS with fixed shapes; images need six to ten


class Candidates(NamedTuple):
    """The boxes of the S highest-scoring anchors of all levels of B images, level by level.

    Attributes:
        bboxes: (B, S, 4) x1,y1,x2,y2 in network pixels, clipped.
        scores: (B, S) float32 in [0, 1].
        levels: (B, S) int64.
    """

    bboxes: Tensor
    scores: Tensor
    levels: Tensor


@MODELS.register_module()
class RPNHead(BaseModule):
    """Predict objectness and a box for every anchor of every level.

    Args:
        in_channels: channels of each map and of the hidden convolution.
        strides: strides of the levels.
        anchor_scale, anchor_ratios: see :class:`AnchorGenerator`.
        assigner, sampler: configs of the training targets.
        nms_pre: maximum number of highest-scoring anchors kept per level.
        nms_thr: boxes whose IoU with a higher-scoring box of the same level exceeds this are dropped.
        max_per_img: maximum number of proposals per image, in training and testing.
        smooth_l1_beta: absolute error of a delta below which the regression loss is quadratic.
        legacy_boxes: x2 and y2 are inclusive.
        init_cfg: mmengine's; normal(0, 0.01) by default.
        iou_threshold: former name of ``nms_thr``.
    """

    def __init__(self, in_channels: int = 256, strides: Sequence[int] = (4, 8, 16, 32, 64), anchor_scale: float = 8,
                 anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0), assigner: dict | None = None,
                 sampler: dict | None = None, nms_pre: int = 200, nms_thr: float = 0.7, max_per_img: int = 200,
                 smooth_l1_beta: float = 1 / 9, legacy_boxes: bool = False, init_cfg: dict | None = None,
                 iou_threshold: float | None = None) -> None:
        super().__init__(init_cfg or dict(type='Normal', layer='Conv2d', std=0.01))
        self.convention = BoxConvention(legacy_boxes)
        self.anchor_generator = AnchorGenerator(strides, anchor_scale, anchor_ratios, legacy_boxes)
        self.coder = DeltaCoder((1.0, 1.0, 1.0, 1.0), self.convention)
        self.assigner = TASK_UTILS.build(
            assigner or dict(type='MaxIoUAssigner', pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3),
            default_args=dict(legacy_boxes=legacy_boxes))
        self.sampler = TASK_UTILS.build(sampler or dict(type='RandomBoxSampler', num=256, pos_fraction=0.5))
        self.nms_pre, self.max_per_img = nms_pre, max_per_img
        self.nms_thr = nms_thr if iou_threshold is None else iou_threshold
        self.smooth_l1_beta = smooth_l1_beta
        num_anchors = self.anchor_generator.num_per_cell
        self.rpn_conv = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.rpn_cls = nn.Conv2d(in_channels, num_anchors, 1)
        self.rpn_reg = nn.Conv2d(in_channels, 4 * num_anchors, 1)

    def forward(self, feats: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Compute logits (B, n_l) and deltas (B, n_l, 4) of each level, ordered as the anchors."""
        logits, deltas = [], []
        for feat in feats:
            hidden = self.rpn_conv(feat).relu()
            logits.append(self.rpn_cls(hidden).permute(0, 2, 3, 1).flatten(1))
            deltas.append(self.rpn_reg(hidden).permute(0, 2, 3, 1).reshape(len(feat), -1, 4))
        return logits, deltas

    @torch.no_grad()
    def candidates(self, feats: Sequence[Tensor], logits: list[Tensor], deltas: list[Tensor],
                   img_shapes: Tensor) -> Candidates:
        """Decode the highest-scoring anchors of each level; shapes do not depend on values.

        Args:
            feats, logits, deltas: see :meth:`forward`.
            img_shapes: (B, 2) h, w without padding.
        """
        chosen = []
        for level, (anchors, logit, delta) in enumerate(zip(self.anchor_generator(feats), logits, deltas)):
            scores, index = logit.float().sigmoid().topk(min(self.nms_pre, logit.shape[1]))
            delta = delta.float().gather(1, index[..., None].expand(-1, -1, 4))
            chosen.append((anchors[index], delta, scores, torch.full_like(index, level)))
        anchors, delta, scores, levels = (torch.cat(parts, dim=1) for parts in zip(*chosen))
        decoded = self.coder.decode(anchors.flatten(0, 1), delta.flatten(0, 1)).view_as(anchors)
        return Candidates(self.convention.clip(decoded, img_shapes), scores, levels)

    @torch.no_grad()
    def proposals(self, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Apply NMS to candidates; return proposals, boxes that may contain an object, in descending order of score.

        Returns:
            ``(bboxes, valid)``: (B, p, 4) in network pixels, clipped, and (B, p) bool, False for unused slots;
            p ≤ ``max_per_img``.
        """
        bboxes, scores, levels = candidates
        image = torch.arange(len(scores), device=scores.device)[:, None]
        groups = image * len(self.anchor_generator.strides) + levels
        keep = self.convention.nms(bboxes.flatten(0, 1), scores.flatten(), groups.flatten(), self.nms_thr)
        survivors = torch.full_like(scores, -1.0).flatten()
        survivors[keep] = scores.flatten()[keep]
        return self._best(bboxes, survivors.view_as(scores))

    @torch.no_grad()
    def fixed_proposals(self, candidates: Candidates, level_sizes: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Compute :meth:`proposals` without synchronising with the GPU.

        Args:
            candidates: boxes and scores in descending order of score within each level.
            level_sizes: number of candidates of each level.

        Returns:
            ``(bboxes, valid, exact)``; ``exact`` () bool: if False, the others are not valid.
        """
        bboxes, scores, _ = candidates
        most = max(level_sizes)
        by_level = [F.pad(level, (0, 0, 0, most - level.shape[1])) for level in bboxes.split(level_sizes, dim=1)]
        groups = self.convention.continuous(torch.stack(by_level, dim=1).flatten(0, 1))  # (B·L, n, 4)
        precedes = torch.ones(most, most, dtype=torch.bool, device=scores.device).triu(1)
        kept, exact = parallel_nms(groups, precedes.expand(len(groups), -1, -1), self.nms_thr, _NMS_STEPS)
        levels = kept.view(len(scores), len(level_sizes), most).unbind(dim=1)
        kept = torch.cat([level[:, :size] for level, size in zip(levels, level_sizes)], dim=1)  # (B, S)
        return *self._best(bboxes, torch.where(kept, scores, -1.0)), exact

    def _best(self, bboxes: Tensor, survivors: Tensor) -> tuple[Tensor, Tensor]:
        """Return what :meth:`proposals` returns for candidates with scores ``survivors``, −1 for dropped ones."""
        best, index = survivors.topk(min(self.max_per_img, survivors.shape[1]))
        return bboxes.gather(1, index[..., None].expand(-1, -1, 4)), best >= 0

    def level_sizes(self, feats: Sequence[Tensor]) -> list[int]:
        """Return how many candidates :meth:`candidates` selects on each level."""
        return [min(self.nms_pre, self.anchor_generator.num_per_cell * feat.shape[2] * feat.shape[3])
                for feat in feats]

    def loss(self, logits: list[Tensor], deltas: list[Tensor], feats: Sequence[Tensor],
             gt_bboxes: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compute ``loss_rpn_cls`` and ``loss_rpn_bbox``, both averaged over all sampled anchors.

        Args:
            logits, deltas, feats: see :meth:`forward`.
            gt_bboxes: B tensors (g, 4), g may be 0.
        """
        anchors = torch.cat(self.anchor_generator(feats))
        sampled_logits, labels, sampled_weights, positive_deltas, targets = [], [], [], [], []
        for logit, delta, gts in zip(torch.cat(logits, 1).float(), torch.cat(deltas, 1).float(), gt_bboxes):
            assigned = self.assigner.assign(anchors, gts)
            index, valid = self.sampler.sample(assigned)
            gt_index = assigned[index]
            sampled_logits.append(logit[index])
            labels.append((gt_index >= 0).float())
            sampled_weights.append(valid.float())
            positive = index[gt_index >= 0]
            positive_deltas.append(delta[positive])
            targets.append(self.coder.encode(anchors[positive], gts[assigned[positive]]))
        weights = torch.cat(sampled_weights)
        num_samples = weights.sum().clamp(min=1)
        loss_cls = F.binary_cross_entropy_with_logits(torch.cat(sampled_logits), torch.cat(labels), weights,
                                                      reduction='sum') / num_samples
        loss_bbox = F.smooth_l1_loss(torch.cat(positive_deltas), torch.cat(targets), beta=self.smooth_l1_beta,
                                     reduction='sum') / num_samples
        return dict(loss_rpn_cls=loss_cls, loss_rpn_bbox=loss_bbox)
