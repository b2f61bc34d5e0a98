"""FCOS: a one-stage detector of single images, backbone → neck → head. Built from a config by name."""
from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.dense_heads.base_dense_head import FrameGeometry
from mmdet.models.detectors.single_stage import SingleStageDetector
from mmdet.models.task_modules.padded_targets import PaddedTargets
from mmdet.ops.device import Launched
from mmdet.registry import MODELS
from mmdet.structures import TrackDataSample


@MODELS.register_module()
class FCOS(SingleStageDetector):
    """Detector of boxes in single images, without masks, tracking and state. An image is a clip of one frame.

    Arguments: see the base class; the head is a ``BaseDenseHead``.
    """

    def loss(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> dict[str, Tensor]:
        """Compute the losses of all frames of all clips."""
        targets = PaddedTargets.from_instances([frame.gt_instances for clip in data_samples for frame in clip],
                                               with_masks=False)
        return self.bbox_head.loss(self.extract_feat(inputs.flatten(0, 1)), targets)

    def detect(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> Iterator[list[InstanceData]]:
        """Detect ``bboxes``, ``scores`` and ``labels`` of each frame."""
        frames = [frame for clip in data_samples for frame in clip]
        geometries = [FrameGeometry.of(frame) for frame in frames]
        detections = self.bbox_head.predict(self.extract_feat(inputs.flatten(0, 1)), geometries)
        work = Launched(inputs.device)

        def read() -> Iterator[list[InstanceData]]:
            with work.results():
                found = iter(self.bbox_head.results(detections, geometries))
            for clip in data_samples:
                yield list(islice(found, len(clip)))

        return read()
