"""Feature maps of a backbone to a pyramid with as many channels on every level."""
from mmdet.models.necks.fpn import FPN
from mmdet.models.necks.swin_fpn import SwinFPN

__all__ = ['FPN', 'SwinFPN']
