"""FCOS: a one-stage detector of single images, backbone → neck → head. Built from a config by name."""
from __future__ import annotations

import torch
from torch import Tensor

from mmdet.models.detectors.single_stage import SingleStageDetector
from mmdet.registry import MODELS
from mmdet.structures import TrackDataSample


@MODELS.register_module()
class FCOS(SingleStageDetector):
    """Finds boxes in every frame by itself: no masks, no identities, no state. An image is a clip of one frame.

    Its head offers ``forward(feats)``, ``loss(feats, frames)`` and ``predict(feats, frames)``. Arguments: see the base
    class.
    """

    def loss(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> dict[str, Tensor]:
        """Losses of all frames of all clips."""
        frames = [frame for clip in data_samples for frame in clip]
        return self.bbox_head.loss(self.extract_feat(inputs.flatten(0, 1)), frames)

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> list[TrackDataSample]:
        """``pred_track_instances`` have ``bboxes``, ``scores`` and ``labels``; best first."""
        frames = [frame for clip in data_samples for frame in clip]
        for frame, instances in zip(frames, self.bbox_head.predict(self.extract_feat(inputs.flatten(0, 1)), frames)):
            frame.pred_track_instances = instances
        return data_samples
