"""Necks: feature pyramids with the same number of channels on every level."""
from mmdet.models.necks.build import build_neck, check_normalization
from mmdet.models.necks.fpn import FPN
from mmdet.models.necks.swin_fpn import SwinFPN

__all__ = ['FPN', 'SwinFPN', 'build_neck', 'check_normalization']
