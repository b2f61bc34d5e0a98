from mmdet.models.necks.fpn import FPN
from mmdet.models.necks.swin_fpn import SwinFPN

__all__ = ['FPN', 'SwinFPN']
