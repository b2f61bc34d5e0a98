"""MemCNP-VIS and other one-stage online models: backbone → neck → dense head → tracker.

Built from a config by name; called by mmengine's runner in training and testing.
"""
from __future__ import annotations

import torch
from torch import Tensor

from mmdet.models.detectors.single_stage import SingleStageDetector
from mmdet.registry import MODELS
from mmdet.structures import TrackDataSample


@MODELS.register_module()
class SipMaskMem(SingleStageDetector):
    """One-stage detector, segmenter and tracker.

    Args:
        backbone, neck, bbox_head, tracker: configs. The head offers ``forward(feats)``,
            ``loss(feats, ref_feats, data_samples)`` and ``predict(feats, frames)``; the tracker ``reset()`` and
            ``track(instances)``.
        data_preprocessor: config.
        init_cfg: mmengine's.
    """

    def __init__(self, backbone: dict, neck: dict, bbox_head: dict, tracker: dict,
                 data_preprocessor: dict | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(backbone, neck, bbox_head, data_preprocessor, init_cfg)
        self.tracker = MODELS.build(tracker)

    def loss(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> dict[str, Tensor]:
        """Losses of N key/reference pairs (T = 2)."""
        feats = self.extract_feat(inputs.transpose(0, 1).flatten(0, 1))  # all key frames, then all reference frames
        keys, references = zip(*(feat.chunk(2) for feat in feats))
        return self.bbox_head.loss(keys, references, data_samples)

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> list[TrackDataSample]:
        """Detect in all frames at once, then track frame by frame. Clips of a video must come in order."""
        frames = [frame for clip in data_samples for frame in clip]
        detections = self.bbox_head.predict(self.extract_feat(inputs.flatten(0, 1)), frames)
        for frame, instances in zip(frames, detections):
            if frame.frame_id == 0:
                self.tracker.reset()
            instances = self.tracker.track(instances)
            del instances.embeddings
            frame.pred_track_instances = instances
        return data_samples
