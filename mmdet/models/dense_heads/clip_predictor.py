"""From detections on the device to results of frames on the host; base of the predictors of the one-stage heads.

Up to the run-length changes of the masks everything has a fixed size and stays on the device (``detect``), so that
it can be replayed as a CUDA graph; ``collect`` copies once and makes the results.

Symbols: B frames of one geometry, D detections a frame, F values of a detection, H0×W0 original frames.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.layers.coefficient_masks import resize_and_fit
from mmdet.models.task_modules.fast_nms import Detections
from mmdet.structures import DetDataSample
from mmdet.structures.device_rle import changes_to_rle, run_changes

MASK_STRIDE = 2  # pixels of the input per pixel of the mask maps


class FrameGeometry(NamedTuple):
    """How a frame lies in the network's input: ``scale_factor``, ``img_shape`` and ``ori_shape`` of its sample."""

    scale_factor: float
    img_shape: tuple[int, int]
    ori_shape: tuple[int, int]

    @classmethod
    def of(cls, frame: DetDataSample) -> FrameGeometry:
        """The geometry of a sample."""
        return cls(frame.scale_factor, tuple(frame.img_shape[:2]), tuple(frame.ori_shape[:2]))


class DeviceDetections(NamedTuple):
    """Detections of B frames on the device.

    Attributes:
        rows: (B, D, F) float32: box in network pixels, score (0: no detection), label, the predictor's extras,
            embedding.
        changes: (n, W0·H0) bool of :func:`run_changes`: n = B·D, or on the CPU only the masks of real detections.
    """

    rows: Tensor
    changes: Tensor


class ClipPredictor:
    """Base class: subclasses define :attr:`extras` and ``detect(maps, geometry)``, which ends with :meth:`pack`."""

    extras: tuple[tuple[str, int], ...] = ()  # name and width of what a detection carries beside box, score and label

    def pack(self, detections: Detections, masks: Tensor, extras: list[Tensor], embeddings: Tensor,
             geometry: FrameGeometry) -> DeviceDetections:
        """Bring detections, (B, D, h, w) mask probabilities, extras and embeddings, all (B, D, ·), into one form."""
        rows = torch.cat([detections.bboxes, detections.scores[..., None], detections.labels[..., None], *extras,
                          embeddings.float()], dim=-1)
        masks, valid = masks.flatten(0, 1), detections.valid.flatten()
        if masks.is_cuda:
            masks = masks * valid[:, None, None]
        else:  # no graph to serve: do only what is needed
            masks = masks[valid]
        # transposed while small: run lengths go by columns
        columns = masks.transpose(1, 2).contiguous()
        fitted = resize_and_fit(columns, MASK_STRIDE / geometry.scale_factor, geometry.ori_shape[::-1])
        return DeviceDetections(rows, run_changes(fitted))

    def collect(self, found: DeviceDetections, geometry: FrameGeometry) -> list[InstanceData]:
        """One copy to the host, then per frame: ``bboxes`` (original pixels), ``scores``, ``labels``, extras,
        ``embeddings``, ``masks``.
        """
        rles = changes_to_rle(found.changes, *geometry.ori_shape)
        rows = found.rows.cpu()
        batch, slots = rows.shape[:2]
        counts = (rows[..., 4] > 0).sum(dim=1).tolist()
        padded = len(rles) == batch * slots
        results, start = [], 0
        for frame, count in enumerate(counts):
            first = frame * slots if padded else start
            start += count
            results.append(self._instances(rows[frame, :count], rles[first:first + count], geometry))
        return results

    def _instances(self, rows: Tensor, masks: list[dict], geometry: FrameGeometry) -> InstanceData:
        instances = InstanceData(
            bboxes=rows[:, :4] / geometry.scale_factor, scores=rows[:, 4], labels=rows[:, 5].long())
        column = 6
        for name, width in self.extras:
            instances[name] = rows[:, column] if width == 1 else rows[:, column:column + width]
            column += width
        instances.embeddings = rows[:, column:]
        instances.masks = masks
        return instances
