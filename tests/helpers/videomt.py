"""The golden VidEoMT and its random numbers, for tests."""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmdet.checkpoint import load_weights
from mmdet.models.detectors import VidEoMT
from mmdet.registry import MODELS
from tests.helpers.golden import golden_json, golden_tensor

SALT = 41


def videomt_config(**kwargs) -> dict:
    """Config of the golden model. Further arguments go to the detector."""
    return dict(
        type='VidEoMT',
        backbone=dict(type='QueryViT', embed_dims=64, depth=5, num_heads=4, query_blocks=3, image_size=128),
        head=dict(type='QueryMaskHead', num_classes=5, num_queries=20)) | kwargs


def golden_videomt_weights() -> dict[str, Tensor]:
    """The golden weights under transformers' names."""
    return {name: torch.tensor(golden_tensor(name, tuple(shape), SALT), dtype=torch.float32)
            for name, shape in golden_json('videomt_small.state_dict.json').items()}


def golden_videomt(**kwargs) -> VidEoMT:
    """The golden model on the CPU; further arguments go to the detector."""
    model = MODELS.build(videomt_config(**kwargs))
    load_weights(model, golden_videomt_weights(), 'golden weights')
    return model


def normal(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Golden inputs."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


class GoldenDraws:
    """Stands in for ``torch.rand``: draw k of a run with seed r is ``default_rng([r, k])``'s; records the shapes."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, *shape: int, device: torch.device | str) -> Tensor:
        values = np.random.default_rng([self.seed, len(self.shapes)]).random(shape).astype(np.float32)
        self.shapes.append(shape)
        return torch.from_numpy(values).to(device)
