"""Class and box of regions (Fast R-CNN, section 2); called by the two-stage detectors."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.checkpoint import ClassRows
from mmdet.models.task_modules.box_convention import BoxConvention, DeltaCoder
from mmdet.models.task_modules.parallel_nms import parallel_nms
from mmdet.registry import MODELS

_CANDIDATES = 512  # for the NMS with fixed shapes, per image; a trained detector has fewer scores above the threshold
_NMS_STEPS = 12  # images need three to eight


@MODELS.register_module()
class Shared2FCBBoxHead(BaseModule):
    """Two shared fully connected layers, then class logits and deltas of every class; index 0 is the background.

    Args:
        num_classes: number of classes without the background.
        in_channels, roi_size: the input is (n, in_channels, roi_size, roi_size).
        fc_channels: channels of the shared layers.
        target_stds: see :class:`DeltaCoder`.
        score_thr: detections with a score of at most this are dropped.
        nms_thr: boxes whose IoU with a higher-scoring box of the same class exceeds this are dropped.
        max_per_img: maximum number of detections per image.
        legacy_boxes: x2 and y2 are inclusive.
        init_cfg: mmengine's; Xavier-uniform for shared layers, normal(0, .01 / .001) for classes / deltas by default.
        iou_threshold: former name of ``nms_thr``.
    """

    class_layers = {'fc_cls': ClassRows(background='first'), 'fc_reg': ClassRows(4, background='first')}

    def __init__(self, num_classes: int, in_channels: int = 256, roi_size: int = 7, fc_channels: int = 1024,
                 target_stds: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2), score_thr: float = 0.05,
                 nms_thr: float = 0.5, max_per_img: int = 10, legacy_boxes: bool = False,
                 init_cfg: dict | list[dict] | None = None, iou_threshold: float | None = None) -> None:
        super().__init__(init_cfg or [dict(type='Xavier', distribution='uniform', override=dict(name='shared_fcs')),
                                      dict(type='Normal', std=0.01, override=dict(name='fc_cls')),
                                      dict(type='Normal', std=0.001, override=dict(name='fc_reg'))])
        self.num_classes, self.roi_size = num_classes, roi_size
        self.score_thr, self.max_per_img = score_thr, max_per_img
        self.nms_thr = nms_thr if iou_threshold is None else iou_threshold
        self.convention = BoxConvention(legacy_boxes)
        self.coder = DeltaCoder(target_stds, self.convention)
        self.shared_fcs = nn.ModuleList([nn.Linear(in_channels * roi_size ** 2, fc_channels),
                                         nn.Linear(fc_channels, fc_channels)])
        self.fc_cls = nn.Linear(fc_channels, num_classes + 1)
        self.fc_reg = nn.Linear(fc_channels, 4 * (num_classes + 1))

    def forward(self, roi_feats: Tensor) -> tuple[Tensor, Tensor]:
        """Compute class logits (n, K + 1) and deltas (n, 4·(K + 1)), background first, of features (n, C, s, s)."""
        x = roi_feats.flatten(1)
        for fc in self.shared_fcs:
            x = fc(x).relu()
        return self.fc_cls(x), self.fc_reg(x)

    def loss(self, logits: Tensor, deltas: Tensor, bboxes: Tensor, labels: Tensor,
             gt_bboxes: Tensor) -> dict[str, Tensor]:
        """Compute ``loss_cls`` (cross-entropy) and ``loss_bbox`` (smooth L1 of the object's class) per region.

        Args:
            logits, deltas: see :meth:`forward`.
            bboxes: (n, 4) boxes of the regions.
            labels: (n,) 0-based class, −1 for background.
            gt_bboxes: (p, 4) boxes of the objects of the p regions that are not background, in their order.
        """
        num_regions = max(len(bboxes), 1)
        loss_cls = F.cross_entropy(logits.float(), labels + 1, reduction='sum') / num_regions
        positive = labels >= 0
        rows = deltas.float().unflatten(1, (-1, 4))[positive]
        rows = rows[torch.arange(len(rows), device=rows.device), labels[positive] + 1]
        targets = self.coder.encode(bboxes[positive], gt_bboxes)
        return dict(loss_cls=loss_cls, loss_bbox=F.smooth_l1_loss(rows, targets, reduction='sum') / num_regions)

    def decode(self, logits: Tensor, deltas: Tensor, proposals: Tensor, valid: Tensor, img_shapes: Tensor,
               scale_factors: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the box and the score of each proposal and class; shapes do not depend on values.

        Args:
            logits, deltas: outputs (B·p, …) for the proposals, see :meth:`forward`.
            proposals, valid: (B, p, 4) in network pixels and (B, p) bool.
            img_shapes: (B, 2) h, w without padding, network pixels.
            scale_factors: (B,) network pixels per original pixel.

        Returns:
            ``(bboxes, scores)``: (B, p·K, 4) in original pixels and (B, p·K); −1 for scores that are too low.
        """
        batch, num = valid.shape
        scores = logits.float().softmax(dim=1)[:, 1:].reshape(batch, num, self.num_classes)
        scores = scores.masked_fill((scores <= self.score_thr) | ~valid[..., None], -1.0)
        bboxes = self.coder.decode(proposals.flatten(0, 1), deltas.float())[:, 1:]
        bboxes = self.convention.clip(bboxes.reshape(batch, -1, 4), img_shapes) / scale_factors[:, None, None]
        return bboxes, scores.flatten(1)

    def select(self, bboxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Apply NMS per class to what :meth:`decode` returns.

        Returns:
            ``(bboxes, scores, labels)``: (B, d, 4) in original pixels, (B, d), (B, d) int64, in descending order of
            score; d ≤ ``max_per_img``. The score of empty slots is −1.
        """
        image, place = (scores >= 0).nonzero(as_tuple=True)
        candidate_scores = scores[image, place]
        keep = self.convention.nms(bboxes[image, place], candidate_scores,
                                   image * self.num_classes + place % self.num_classes, self.nms_thr)
        survivors = torch.full_like(scores, -1.0)
        survivors[image[keep], place[keep]] = candidate_scores[keep]
        return self._best(bboxes, survivors)

    def fixed_select(self, bboxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute :meth:`select` without synchronising with the GPU, from the highest-scoring candidates only.

        Since a box is only suppressed by boxes of higher score, further candidates have no influence if there are none,
        or if ``max_per_img`` candidates with a higher score than theirs are kept.

        Returns:
            ``(bboxes, scores, labels, exact)``; ``exact`` () bool: if False, the others are not valid.
        """
        top, index = scores.topk(min(_CANDIDATES, scores.shape[1]))  # (B, M)
        boxes = self.convention.continuous(bboxes.gather(1, index[..., None].expand(-1, -1, 4)))
        labels = index % self.num_classes
        first, second = top[:, :, None], top[:, None]
        precedes = (first > second) | ((first == second) & (index[:, :, None] < index[:, None]))
        precedes &= (labels[:, :, None] == labels[:, None]) & (first >= 0)
        kept, exact = parallel_nms(boxes, precedes, self.nms_thr, _NMS_STEPS)
        survivors = torch.full_like(scores, -1.0).scatter(1, index, torch.where(kept, top, -1.0))
        found = self._best(bboxes, survivors)
        if top.shape[1] < scores.shape[1]:
            exact = exact & ((top[:, -1] < 0) | (found[1][:, -1] > top[:, -1])).all()
        return *found, exact

    def _best(self, bboxes: Tensor, survivors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what :meth:`select` returns for scores ``survivors`` (B, p·K), −1 for dropped boxes."""
        best, index = survivors.topk(min(self.max_per_img, survivors.shape[1]))
        return bboxes.gather(1, index[..., None].expand(-1, -1, 4)), best, index % self.num_classes
