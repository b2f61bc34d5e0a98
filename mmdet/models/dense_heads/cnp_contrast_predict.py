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

from mmdet.models.layers.coefficient_masks import coefficient_masks, resize_and_fit
from mmdet.models.task_modules.fast_nms import Detections, fast_nms
from mmdet.models.task_modules.map_sampling import decode_boxes, sample_at_centers
from mmdet.structures import DetDataSample
from mmdet.structures.device_rle import masks_to_rle

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
        rles = self._encode(masks, counts, frames)
        return [self._instances(rows[:n], rle, frame)
                for rows, n, rle, frame in zip(packed.cpu(), counts, rles, frames)]

    def _candidates(self, maps: CNPMaps) -> tuple[Tensor, Tensor]:
        """The best locations of each level: (B, S) indices; and centerness probabilities (B, N)."""
        centerness = maps.centerness.sigmoid()
        score = maps.cls_logits.amax(dim=2).sigmoid() * centerness
        sizes = [height * width for height, width in maps.level_sizes]
        index, start = [], 0
        for size, level in zip(sizes, score.split(sizes, dim=1)):
            index.append(level.topk(min(self.max_pre_nms, size), dim=1).indices + start)
            start += size
        return torch.cat(index, dim=1), centerness

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
    def _encode(masks: Tensor, counts: list[int], frames: Sequence[DetDataSample]) -> list[list[dict]]:
        """RLE of the first ``counts`` masks of each frame; frames of equal geometry are done together."""
        rles: list[list[dict]] = [[] for _ in frames]
        groups: dict[tuple, list[int]] = {}
        for i, frame in enumerate(frames):
            groups.setdefault((frame.scale_factor, tuple(frame.ori_shape[:2])), []).append(i)
        for (scale, shape), members in groups.items():
            chosen = torch.cat([masks[i, :counts[i]] for i in members])
            if len(chosen):
                encoded = iter(masks_to_rle(resize_and_fit(chosen, 2 / scale, shape)))
                for i in members:
                    rles[i] = [next(encoded) for _ in range(counts[i])]
        return rles

    @staticmethod
    def _instances(rows: Tensor, masks: list[dict], frame: DetDataSample) -> InstanceData:
        return InstanceData(bboxes=rows[:, :4] / frame.scale_factor, scores=rows[:, 4], labels=rows[:, 5].long(),
                            uncertainties=rows[:, 6:10], centerness=rows[:, 10], embeddings=rows[:, 11:], masks=masks)
