"""FCOS: a one-stage detector of single images, backbone → neck → head. Built from a config by name."""
from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.dense_heads.base_dense_head import FrameGeometry
from mmdet.models.detectors.single_stage import SingleStageDetector
from mmdet.models.task_modules.padded_targets import PaddedTargets
from mmdet.ops.device import Launched, device_rows
from mmdet.registry import MODELS
from mmdet.structures import TrackDataSample


@MODELS.register_module()
class FCOS(SingleStageDetector):
    """Detector of boxes in single images, without masks, tracking and state. An image is a clip of one frame.

    Arguments: see the base class; the head is a ``BaseDenseHead``.
    """

    max_graphs = 32  # images of a data set have more sizes than videos

    def loss(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> dict[str, Tensor]:
        """Compute the losses of all frames of all clips."""
        targets = PaddedTargets.from_instances([frame.gt_instances for clip in data_samples for frame in clip],
                                               with_masks=False)
        return self.bbox_head.loss(self.extract_feat(inputs.flatten(0, 1)), targets)

    def detect(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> Iterator[list[InstanceData]]:
        """Detect ``bboxes``, ``scores`` and ``labels`` of each frame.

        NMS, which synchronises with the GPU, is left to the iteration, so that it does not delay the next clips.
        """
        geometries = [FrameGeometry.of(frame) for clip in data_samples for frame in clip]
        images, head = inputs.flatten(0, 1), self.bbox_head
        graphed = self.cuda_graphs and not self.training and self._graphs.available(images.device)
        if graphed:
            shapes = device_rows([tuple(map(float, geometry.img_shape)) for geometry in geometries], images.device)
            selected = self._graphs.run(self._select, images, shapes)
        else:
            detections = head.predict(self.extract_feat(images), geometries)
        work = Launched(images.device)

        def read() -> Iterator[list[InstanceData]]:
            with work.results(), torch.autocast(images.device.type, enabled=False):
                found = iter(head.results(head.finish(selected, geometries) if graphed else detections, geometries))
            for clip in data_samples:
                yield list(islice(found, len(clip)))

        return read()

    def _select(self, images: Tensor, shapes: Tensor) -> tuple[Tensor, ...]:
        outputs = self.bbox_head(self.extract_feat(images))
        with torch.autocast(images.device.type, enabled=False):
            return self.bbox_head.select(outputs, shapes)
