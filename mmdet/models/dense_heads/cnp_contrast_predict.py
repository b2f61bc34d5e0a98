"""From the MemCNP head's maps to detections (paper section 3, inference); called by ``CNPContrastHead`` in testing.

Everything stays on the device, with fixed sizes, until one copy at the end.

Symbols: B frames, N locations, S candidates, D detections a frame, C channels, K classes.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.layers.coefficient_masks import coefficient_masks
from mmdet.models.layers.mask_encoding import encode_frame_masks
from mmdet.models.task_modules.candidates import best_per_level
from mmdet.models.task_modules.fast_nms import Detections, fast_nms
from mmdet.models.task_modules.map_sampling import decode_boxes, sample_at_centers
from mmdet.structures import DetDataSample

if TYPE_CHECKING:
    from mmdet.models.dense_heads.cnp_contrast_head import CNPMaps


class CNPContrastPredictor:
    """Candidates per level, Fast NMS, masks and track embeddings of a batch of frames.

    Args:
        max_pre_nms: locations kept per level, and candidates per class in the NMS.
        score_thr: scores (class · centerness) must exceed it.
        nms_thr: boxes of a class that overlap a better one by more are dropped.
        max_per_img: detections of a frame at most.
    """

    def __init__(self, max_pre_nms: int = 200, score_thr: float = 0.015, nms_thr: float = 0.5,
                 max_per_img: int = 10) -> None:
        self.max_pre_nms, self.score_thr = max_pre_nms, score_thr
        self.nms_thr, self.max_per_img = nms_thr, max_per_img

    def __call__(self, maps: CNPMaps, frames: Sequence[DetDataSample]) -> list[InstanceData]:
        """Detections of each frame, on the CPU, best first.

        Args:
            maps: of B frames. frames: their samples; ``scale_factor`` and ``ori_shape`` are read.

        Returns:
            B ``InstanceData`` with ``bboxes`` (n, 4) in original pixels, ``scores``, ``labels``, ``uncertainties`` (n, 4),
            ``centerness``, ``embeddings`` (n, C) and ``masks``, a list of COCO RLE.
        """
        index, centerness = self._candidates(maps)
        detections, uncertainties, centerness = self._detect(maps, index, centerness)
        embeddings = sample_at_centers(maps.track, detections.bboxes, rounding='nearest')
        coefficients = sample_at_centers(maps.track, detections.bboxes)
        masks = coefficient_masks(maps.mask, coefficients, detections.bboxes / 2)  # (B, D, h, w)
        packed = torch.cat([detections.bboxes, detections.scores[..., None], detections.labels[..., None], uncertainties,
                            centerness[..., None], embeddings.float()], dim=-1)
        counts = detections.valid.sum(dim=1).tolist()
        rles = encode_frame_masks(masks, counts, frames)
        return [self._instances(rows[:n], rle, frame)
                for rows, n, rle, frame in zip(packed.cpu(), counts, rles, frames)]

    def _candidates(self, maps: CNPMaps) -> tuple[Tensor, Tensor]:
        """The best locations of each level: (B, S) indices; and centerness probabilities (B, N)."""
        centerness = maps.centerness.sigmoid()
        score = maps.cls_logits.amax(dim=2).sigmoid() * centerness
        return best_per_level(score, maps.level_sizes, self.max_pre_nms), centerness

    def _detect(self, maps: CNPMaps, index: Tensor, centerness: Tensor) -> tuple[Detections, Tensor, Tensor]:
        """Fast NMS over the candidates: detections (network pixels), their σ (B, D, 4) ≤ 1 and centerness (B, D)."""
        rows = torch.arange(len(index), device=index.device)[:, None]
        centerness = centerness[rows, index]  # (B, S)
        scores = maps.cls_logits[rows, index].sigmoid() * centerness[..., None]  # (B, S, K)
        bboxes = decode_boxes(maps.points[index], maps.means[rows, index], maps.size)
        detections = fast_nms(bboxes, scores, self.nms_thr, self.score_thr, self.max_per_img, self.max_pre_nms)
        sigmas = maps.sigmas[rows, index[rows, detections.index]].clamp(max=1)
        return detections, sigmas, centerness[rows, detections.index]

    @staticmethod
    def _instances(rows: Tensor, masks: list[dict], frame: DetDataSample) -> InstanceData:
        return InstanceData(bboxes=rows[:, :4] / frame.scale_factor, scores=rows[:, 4], labels=rows[:, 5].long(),
                            uncertainties=rows[:, 6:10], centerness=rows[:, 10], embeddings=rows[:, 11:], masks=masks)
