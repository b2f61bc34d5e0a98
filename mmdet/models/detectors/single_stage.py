"""What the one-stage detectors share: backbone → neck → dense head, and the choice between training and testing."""
from __future__ import annotations

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmdet.models.layers.feature_align import DeformConv3x3
from mmdet.registry import MODELS
from mmdet.structures import TrackDataSample


class SingleStageDetector(BaseModel):
    """Base class; the subclasses define ``loss(inputs, data_samples)`` and ``predict(inputs, data_samples)``.

    Args:
        backbone, neck, bbox_head: configs.
        data_preprocessor: config.
        init_cfg: mmengine's.
    """

    def __init__(self, backbone: dict, neck: dict, bbox_head: dict, data_preprocessor: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(MODELS.build(data_preprocessor) if data_preprocessor else None, init_cfg)
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build(neck)
        self.bbox_head = MODELS.build(bbox_head)

    def extract_feat(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) normalised images → the pyramid's maps."""
        return self.neck(self.backbone(images))

    def halve_weights(self, dtype: torch.dtype = torch.bfloat16) -> None:
        """Store the weights of convolutions and linear layers as autocast would cast them at every step.

        For testing under ``torch.autocast`` of the same type: same numbers, less time. Cannot be undone. What computes
        in float32 under autocast too (``keep_float32``) stays.
        """
        def halve(module: nn.Module) -> None:
            if getattr(module, 'keep_float32', False):
                return
            if isinstance(module, nn.Conv2d | nn.Linear | DeformConv3x3):
                layout = torch.channels_last if module.weight.ndim == 4 else torch.preserve_format
                module.to(dtype=dtype, memory_format=layout)
            for child in module.children():
                halve(child)

        halve(self)

    def forward(self, inputs: Tensor, data_samples: list[TrackDataSample] | None = None,
                mode: str = 'tensor') -> dict[str, Tensor] | list[TrackDataSample] | object:
        """Run the model.

        Args:
            inputs: (N, T, 3, H, W) float32, normalised, H and W multiples of 32.
            data_samples: N clips of T frames.
            mode: ``'loss'`` returns a dict of losses, ``'predict'`` the clips with ``pred_track_instances`` on every
                frame, ``'tensor'`` the head's maps of all N·T frames.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        return self.bbox_head(self.extract_feat(inputs.flatten(0, 1)))
