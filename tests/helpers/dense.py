"""Tiny one-stage models beside MemCNP for tests: SipMask and FCOS."""
from __future__ import annotations

from mmengine.model import BaseModel

from mmdet.registry import MODELS
from tests.helpers.golden import fill_golden


def build_sipmask(embed_dims: int = 96, channels: int = 256, num_classes: int = 5, **head) -> BaseModel:
    """SipMask with a small ViT, four levels; the defaults are the golden model's. Further arguments go to the head."""
    return MODELS.build(dict(
        type='SipMask',
        backbone=dict(type='ViT', embed_dims=embed_dims, num_heads=4),
        neck=dict(type='FPN', in_channels=[embed_dims] * 3, out_channels=channels, num_outs=4),
        bbox_head=dict(type='SipMaskHead', num_classes=num_classes, in_channels=channels,
                       strides=(8, 16, 32, 64)) | head,
        tracker=dict(type='AssociationTracker', similarity='dot', temperature=1.0)))


def golden_sipmask() -> BaseModel:
    """SipMask with the golden weights, its boxes enlarged as they were for the golden numbers."""
    model = fill_golden(build_sipmask(track_jitter=0.0))
    model.bbox_head.fcos_reg.bias.data += 3.0
    return model


def build_fcos(embed_dims: int = 32, channels: int = 32, num_classes: int = 3, **head) -> BaseModel:
    """FCOS with a small ViT, four levels. Further arguments go to the head."""
    return MODELS.build(dict(
        type='FCOS',
        backbone=dict(type='ViT', embed_dims=embed_dims, num_heads=4),
        neck=dict(type='FPN', in_channels=[embed_dims] * 3, out_channels=channels, num_outs=4),
        bbox_head=dict(type='FCOSHead', num_classes=num_classes, in_channels=channels, stacked_convs=1,
                       strides=(8, 16, 32, 64)) | head))
