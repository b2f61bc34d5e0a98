"""From the FCOS head's maps to detections (FCOS, section 3.3; baselines.md, E); called by ``FCOSHead`` in testing.

Symbols: B images, N locations, S candidates, K classes.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.task_modules.box_convention import BoxConvention
from mmdet.models.task_modules.candidates import best_per_level
from mmdet.models.task_modules.map_sampling import gather_rows
from mmdet.structures import DetDataSample

if TYPE_CHECKING:
    from mmdet.models.dense_heads.fcos_head import FCOSMaps


class FCOSPredictor:
    """Candidates per level, threshold, NMS within each class.

    Args:
        nms_pre: locations kept per level, by class probability · centerness.
        score_thr: the class probability alone must exceed it.
        nms_thr: boxes of a class that overlap a better one by more are dropped.
        max_per_img: detections of an image at most, by class probability · centerness.
    """

    def __init__(self, nms_pre: int = 1000, score_thr: float = 0.05, nms_thr: float = 0.5,
                 max_per_img: int = 100) -> None:
        self.nms_pre, self.score_thr = nms_pre, score_thr
        self.nms_thr, self.max_per_img = nms_thr, max_per_img
        self.convention = BoxConvention(legacy=True)  # as published

    def __call__(self, maps: FCOSMaps, frames: Sequence[DetDataSample]) -> list[InstanceData]:
        """Detections of each image on the CPU, best first: ``bboxes`` (n, 4) in original pixels, ``scores, labels``.

        Args:
            maps: of B images. frames: their samples; ``scale_factor`` and ``img_shape`` are read.
        """
        centerness = maps.centerness.sigmoid()
        index = best_per_level(maps.cls_logits.amax(dim=2).sigmoid() * centerness, maps.level_sizes, self.nms_pre)
        probabilities = gather_rows(maps.cls_logits, index).sigmoid()  # (B, S, K)
        centerness = centerness.gather(1, index)  # (B, S)
        shapes = torch.tensor([frame.img_shape[:2] for frame in frames]).to(index.device, non_blocking=True)
        bboxes = self.convention.clip(gather_rows(maps.bboxes, index), shapes)
        image, candidate, label = (probabilities > self.score_thr).nonzero(as_tuple=True)
        bboxes = bboxes[image, candidate]
        scores = probabilities[image, candidate, label] * centerness[image, candidate]
        kept = self.convention.nms(bboxes, scores, image * probabilities.shape[2] + label, self.nms_thr)
        rows = torch.cat([bboxes, scores[:, None], label[:, None], image[:, None]], dim=1)[kept].cpu()
        return [self._instances(rows[rows[:, 6] == i][:self.max_per_img], frame) for i, frame in enumerate(frames)]

    @staticmethod
    def _instances(rows: Tensor, frame: DetDataSample) -> InstanceData:
        return InstanceData(bboxes=rows[:, :4] / frame.scale_factor, scores=rows[:, 4], labels=rows[:, 5].long())
