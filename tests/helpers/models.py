"""Tiny models for tests: the real classes and code paths, small numbers."""
from __future__ import annotations

from mmengine.model import BaseModel

from mmdet.registry import MODELS


def memcnp_config(embed_dims: int = 96, channels: int = 64, num_classes: int = 5, **head) -> dict:
    """Config of MemCNP with a small ViT; the defaults are the golden model's. Further arguments go to the head."""
    return dict(
        type='SipMaskMem',
        data_preprocessor=dict(type='TrackDataPreprocessor', mean=[123.675, 116.28, 103.53],
                               std=[58.395, 57.12, 57.375], bgr_to_rgb=True, pad_size_divisor=32),
        backbone=dict(type='ViT', embed_dims=embed_dims, num_heads=4),
        neck=dict(type='FPN', in_channels=[embed_dims] * 3, out_channels=channels, num_outs=4),
        bbox_head=dict(type='CNPContrastHead', num_classes=num_classes, in_channels=channels) | head,
        tracker=dict(type='AssociationTracker'))


def build_memcnp(**kwargs) -> BaseModel:
    """The model of :func:`memcnp_config`, without a data preprocessor: it takes normalised inputs."""
    return MODELS.build(memcnp_config(**kwargs) | dict(data_preprocessor=None))
