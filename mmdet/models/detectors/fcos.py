"""FCOS: a one-stage detector of single images, backbone → neck → head. Built from a config by name."""
from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.detectors.single_stage import SingleStageDetector
from mmdet.registry import MODELS
from mmdet.structures import TrackDataSample


@MODELS.register_module()
class FCOS(SingleStageDetector):
    """Finds boxes in every frame by itself: no masks, no identities, no stream state. An image is a clip of one frame.

    Its head offers ``forward(feats)``, ``loss(feats, frames)`` and ``predict(feats, frames)``. Arguments: see the base
    class.
    """

    def loss(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> dict[str, Tensor]:
        """Losses of all frames of all clips."""
        frames = [frame for clip in data_samples for frame in clip]
        return self.bbox_head.loss(self.extract_feat(inputs.flatten(0, 1)), frames)

    def detect(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> Iterator[list[InstanceData]]:
        """Find ``bboxes``, ``scores`` and ``labels`` of each frame."""
        frames = [frame for clip in data_samples for frame in clip]
        found = iter(self.bbox_head.predict(self.extract_feat(inputs.flatten(0, 1)), frames))
        for clip in data_samples:
            yield list(islice(found, len(clip)))
