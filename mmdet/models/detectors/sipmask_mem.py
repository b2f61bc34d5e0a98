"""MemCNP-VIS and other one-stage online models: backbone → neck → dense head → tracker.

Built from a config by name; called by mmengine's runner in training and testing.
"""
from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, islice

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserError
from mmdet.models.dense_heads.clip_predictor import DeviceDetections, FrameGeometry
from mmdet.models.detectors.single_stage import SingleStageDetector
from mmdet.models.layers.cuda_graphs import CudaGraphs
from mmdet.models.layers.training_graphs import TrainingGraphs, call
from mmdet.registry import MODELS
from mmdet.structures import TrackDataSample


@MODELS.register_module()
class SipMaskMem(SingleStageDetector):
    """One-stage detector, segmenter and tracker.

    Args:
        backbone, neck, bbox_head, tracker: configs. The head offers ``forward(feats)``,
            ``loss(feats, data_samples, graphs)``, ``detect(feats, geometry)`` and ``predictor.collect(detections,
            geometry)``; the tracker ``new_state()`` and ``track(instances, state)``.
        cuda_graphs: on a GPU, replay the detection of frames as a CUDA graph, one per shape.
        graph_training: on a GPU, replay the fixed-shape parts of a training step as CUDA graphs, for small networks,
            whose steps wait for the launches of kernels. Excludes ``with_cp``.
        data_preprocessor: config.
        init_cfg: mmengine's.
    """

    def __init__(self, backbone: dict, neck: dict, bbox_head: dict, tracker: dict, cuda_graphs: bool = True,
                 graph_training: bool = False, data_preprocessor: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(backbone, neck, bbox_head, tracker, data_preprocessor, init_cfg)
        self.cuda_graphs = cuda_graphs
        self._graphs = CudaGraphs()
        self.graph_training = graph_training
        self._training_graphs = TrainingGraphs()
        if graph_training and any(getattr(module, 'with_cp', False) for module in self.modules()):
            raise UserError(f'{type(self).__name__} graph_training=True and with_cp=True exclude each other: set '
                            'model.backbone.with_cp=False (faster) or model.graph_training=False (less memory)')

    def loss(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> dict[str, Tensor]:
        """Losses of N key/reference pairs (T = 2)."""
        images = inputs.transpose(0, 1).flatten(0, 1)  # all key frames, then all reference frames
        graphs = self._training_graphs if self.graph_training and images.is_cuda else None
        feats = (graphs.run if graphs else call)(self.extract_feat, images)
        return self.bbox_head.loss(feats, data_samples, graphs)

    def train(self, mode: bool = True) -> SipMaskMem:
        self._graphs.clear()  # what the graphs read may be replaced in training
        return super().train(mode)

    def _detect(self, images: Tensor, geometry: FrameGeometry) -> DeviceDetections:
        return self.bbox_head.detect(self.extract_feat(images), geometry)

    def detect(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> Iterator[list[InstanceData]]:
        """Detect in the frames of all clips of one geometry at once."""
        for geometry, group in groupby(zip(inputs, data_samples), lambda pair: FrameGeometry.of(pair[1][0])):
            clips = [images for images, _ in group]
            images = torch.cat(clips) if len(clips) > 1 else clips[0]
            if self.cuda_graphs and images.is_cuda:
                found = self._graphs.run(self._detect, images, geometry)
            else:
                found = self._detect(images, geometry)
            detections = iter(self.bbox_head.predictor.collect(found, geometry))
            for clip in clips:
                yield list(islice(detections, len(clip)))
