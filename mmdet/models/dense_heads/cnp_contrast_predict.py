"""From the MemCNP head's maps to detections (paper section 3, inference); called by ``CNPContrastHead`` in testing.

Symbols: B frames, N locations, S candidates, D detections a frame, C channels, K classes.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmdet.models.dense_heads.clip_predictor import MASK_STRIDE, ClipPredictor, DeviceDetections, FrameGeometry
from mmdet.models.layers.coefficient_masks import coefficient_masks
from mmdet.models.task_modules.candidates import best_per_level
from mmdet.models.task_modules.fast_nms import Detections, fast_nms
from mmdet.models.task_modules.map_sampling import decode_boxes, sample_at_centers

if TYPE_CHECKING:
    from mmdet.models.dense_heads.cnp_contrast_head import CNPMaps


class CNPContrastPredictor(ClipPredictor):
    """Candidates per level, Fast NMS, masks and track embeddings of a batch of frames.

    Args:
        max_pre_nms: locations kept per level, and candidates per class in the NMS.
        score_thr: scores (class · centerness) must exceed it.
        nms_thr: boxes of a class that overlap a better one by more are dropped.
        max_per_img: detections of a frame at most.
    """

    extras = (('uncertainties', 4), ('centerness', 1))

    def __init__(self, max_pre_nms: int = 200, score_thr: float = 0.015, nms_thr: float = 0.5,
                 max_per_img: int = 10) -> None:
        self.max_pre_nms, self.score_thr = max_pre_nms, score_thr
        self.nms_thr, self.max_per_img = nms_thr, max_per_img

    def detect(self, maps: CNPMaps, geometry: FrameGeometry) -> DeviceDetections:
        """Detections of B frames of one geometry, on the device, best first."""
        centerness = maps.centerness.sigmoid()
        index = best_per_level(maps.cls_logits.amax(dim=2).sigmoid() * centerness, maps.level_sizes, self.max_pre_nms)
        detections, uncertainties, centerness = self._detect(maps, index, centerness)
        embeddings = sample_at_centers(maps.track, detections.bboxes, rounding='nearest')
        coefficients = sample_at_centers(maps.track, detections.bboxes)
        masks = coefficient_masks(maps.coarse_mask, coefficients, detections.bboxes / MASK_STRIDE)  # (B, D, h, w)
        return self.pack(detections, masks, [uncertainties, centerness[..., None]], embeddings, geometry)

    def _detect(self, maps: CNPMaps, index: Tensor, centerness: Tensor) -> tuple[Detections, Tensor, Tensor]:
        """Fast NMS over the candidates: detections (network pixels), their σ (B, D, 4) ≤ 1 and centerness (B, D)."""
        rows = torch.arange(len(index), device=index.device)[:, None]
        centerness = centerness[rows, index]  # (B, S)
        scores = maps.cls_logits[rows, index].sigmoid() * centerness[..., None]  # (B, S, K)
        bboxes = decode_boxes(maps.points[index], maps.means[rows, index], maps.size)
        detections = fast_nms(bboxes, scores, self.nms_thr, self.score_thr, self.max_per_img, self.max_pre_nms)
        sigmas = maps.sigmas[rows, index[rows, detections.index]].clamp(max=1)
        return detections, sigmas, centerness[rows, detections.index]
