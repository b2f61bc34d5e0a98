"""MemCNP-VIS and other one-stage online models: backbone → neck → dense head → tracker.

Built from a config by name; called by mmengine's runner in training and testing.
"""
from __future__ import annotations

import torch
from torch import Tensor

from mmdet.models.dense_heads.clip_predictor import DeviceDetections, FrameGeometry
from mmdet.models.detectors.single_stage import SingleStageDetector
from mmdet.models.layers.cuda_graphs import CudaGraphs
from mmdet.registry import MODELS
from mmdet.structures import TrackDataSample


@MODELS.register_module()
class SipMaskMem(SingleStageDetector):
    """One-stage detector, segmenter and tracker.

    Args:
        backbone, neck, bbox_head, tracker: configs. The head offers ``forward(feats)``,
            ``loss(feats, ref_feats, data_samples)``, ``detect(feats, geometry)`` and ``predictor.collect(detections,
            geometry)``; the tracker ``reset()`` and ``track(instances)``.
        cuda_graphs: on a GPU, replay the detection of frames as a CUDA graph, one per shape.
        data_preprocessor: config.
        init_cfg: mmengine's.
    """

    def __init__(self, backbone: dict, neck: dict, bbox_head: dict, tracker: dict, cuda_graphs: bool = True,
                 data_preprocessor: dict | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(backbone, neck, bbox_head, data_preprocessor, init_cfg)
        self.tracker = MODELS.build(tracker)
        self.cuda_graphs = cuda_graphs
        self._graphs = CudaGraphs()

    def loss(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> dict[str, Tensor]:
        """Losses of N key/reference pairs (T = 2)."""
        feats = self.extract_feat(inputs.transpose(0, 1).flatten(0, 1))  # all key frames, then all reference frames
        keys, references = zip(*(feat.chunk(2) for feat in feats))
        return self.bbox_head.loss(keys, references, data_samples)

    def train(self, mode: bool = True) -> SipMaskMem:
        self._graphs.clear()  # what the graphs read may be replaced in training
        return super().train(mode)

    def _detect(self, images: Tensor, geometry: FrameGeometry) -> DeviceDetections:
        return self.bbox_head.detect(self.extract_feat(images), geometry)

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> list[TrackDataSample]:
        """Detect in all frames of a clip at once, then track frame by frame. Clips of a video must come in order."""
        for images, clip in zip(inputs, data_samples):
            geometry = FrameGeometry.of(clip[0])
            if self.cuda_graphs and images.is_cuda:
                found = self._graphs.run(self._detect, images, geometry)
            else:
                found = self._detect(images, geometry)
            detections = self.bbox_head.predictor.collect(found, geometry)
            for frame, instances in zip(clip, detections):
                if frame.frame_id == 0:
                    self.tracker.reset()
                instances = self.tracker.track(instances)
                del instances.embeddings
                frame.pred_track_instances = instances
        return data_samples
