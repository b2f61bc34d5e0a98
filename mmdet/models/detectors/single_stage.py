"""Base class of the one-stage detectors: backbone → neck → dense head."""
from __future__ import annotations

import torch
from torch import Tensor

from mmdet.models.cuda_graphs import InferenceGraphs
from mmdet.models.detectors.base import BaseDetector
from mmdet.models.layers.half_weights import halve_weights
from mmdet.models.necks import build_neck, check_normalization
from mmdet.registry import MODELS


class SingleStageDetector(BaseDetector):
    """Base class; the subclasses define ``loss(inputs, data_samples)`` and ``detect(inputs, data_samples)``.

    Args:
        backbone, neck, bbox_head: configs.
        tracker, data_preprocessor, init_cfg: see :class:`BaseDetector`.
        cuda_graphs: on a GPU, replay the detection in frames as a CUDA graph in testing, one per shape.

    Attributes:
        max_graphs: maximum number of graphs, see :class:`InferenceGraphs`.
    """

    max_graphs = 8

    def __init__(self, backbone: dict, neck: dict, bbox_head: dict, tracker: dict | None = None,
                 data_preprocessor: dict | None = None, init_cfg: dict | None = None, cuda_graphs: bool = True) -> None:
        super().__init__(tracker, data_preprocessor, init_cfg)
        self.cuda_graphs = cuda_graphs
        self._graphs = InferenceGraphs(self.max_graphs)
        self.backbone = MODELS.build(backbone)
        self.neck = build_neck(neck, self.backbone, bbox_head.get('strides'))
        check_normalization(self.backbone, self.data_preprocessor)
        self.bbox_head = MODELS.build(bbox_head)

    def extract_feat(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the pyramid's maps of normalised images (B, 3, H, W)."""
        return self.neck(self.backbone(images))

    def halve_weights(self, dtype: torch.dtype = torch.bfloat16) -> None:
        """Cast the weights of convolutions and linear layers once, instead of at every step under autocast.

        For testing under ``torch.autocast`` with the same dtype: same results, less time. Cannot be undone.
        """
        self._graphs.clear()  # they read the former weights
        halve_weights(self, dtype)

    def train(self, mode: bool = True) -> SingleStageDetector:
        self._graphs.clear()  # training may replace tensors that the graphs read
        return super().train(mode)

    def _forward(self, inputs: Tensor) -> object:
        return self.bbox_head(self.extract_feat(inputs.flatten(0, 1)))
