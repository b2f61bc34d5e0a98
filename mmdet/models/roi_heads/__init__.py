from mmdet.models.roi_heads.bbox_head import Shared2FCBBoxHead
from mmdet.models.roi_heads.mask_head import FCNMaskHead
from mmdet.models.roi_heads.track_head import TrackHead

__all__ = ['FCNMaskHead', 'Shared2FCBBoxHead', 'TrackHead']
