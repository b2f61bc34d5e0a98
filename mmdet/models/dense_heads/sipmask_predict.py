"""From the SipMask head's maps to detections (baselines.md, A, inference); called by ``SipMaskHead`` in testing.

Symbols: B frames, N locations, S candidates, D detections a frame, C channels of the track map, K classes.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from mmdet.models.dense_heads.clip_predictor import MASK_STRIDE, ClipPredictor, DeviceDetections, FrameGeometry
from mmdet.models.layers.constants import device_constant
from mmdet.models.layers.split_masks import split_masks
from mmdet.models.task_modules.box_convention import BoxConvention
from mmdet.models.task_modules.candidates import best_per_level
from mmdet.models.task_modules.fast_nms import fast_nms
from mmdet.models.task_modules.map_sampling import boxes_from_distances, gather_rows, sample_at_centers

if TYPE_CHECKING:
    from mmdet.models.dense_heads.sipmask_head import SipMaskMaps


class SipMaskPredictor(ClipPredictor):
    """Candidates per level, Fast NMS, masks and track embeddings of a batch of frames.

    Args:
        num_splits: rows and columns of parts of a box.
        nms_pre: locations kept per level, and candidates per class in the NMS.
        score_thr: scores (class · centerness) must exceed it.
        nms_thr: boxes of a class that overlap a better one by more are dropped.
        max_per_img: detections of a frame at most.
    """

    def __init__(self, num_splits: int = 2, nms_pre: int = 200, score_thr: float = 0.03, nms_thr: float = 0.5,
                 max_per_img: int = 10) -> None:
        self.num_splits, self.nms_pre = num_splits, nms_pre
        self.score_thr, self.nms_thr, self.max_per_img = score_thr, nms_thr, max_per_img
        self.convention = BoxConvention(legacy=True)  # boxes name their last pixel: W − 1 is the right-most side

    def detect(self, maps: SipMaskMaps, geometry: FrameGeometry) -> DeviceDetections:
        """Detections of B frames of one geometry, on the device, best first."""
        centerness = maps.centerness.sigmoid()
        best_score = maps.cls_logits.amax(dim=2).sigmoid() * centerness
        index = best_per_level(best_score, maps.level_sizes, self.nms_pre)  # (B, S)
        scores = gather_rows(maps.cls_logits, index).sigmoid() * centerness.gather(1, index)[..., None]  # (B, S, K)
        bboxes = boxes_from_distances(maps.points[index], gather_rows(maps.distances, index))
        shapes = device_constant(geometry.img_shape, bboxes.device).expand(len(bboxes), 2)
        bboxes = self.convention.clip(bboxes, shapes)
        # distances may be negative: a box turned inside out is no detection
        scores = scores * (bboxes[..., :2] <= bboxes[..., 2:]).all(dim=-1, keepdim=True)
        detections = fast_nms(bboxes, scores, self.nms_thr, self.score_thr,
                              self.max_per_img, self.nms_pre)
        coefficients = gather_rows(maps.coefficients, index.gather(1, detections.index))
        masks = split_masks(maps.bases, coefficients, detections.bboxes / MASK_STRIDE, self.num_splits)  # (B, D, h, w)
        embeddings = sample_at_centers(maps.track, detections.bboxes)
        return self.pack(detections, masks, [], embeddings, geometry)
