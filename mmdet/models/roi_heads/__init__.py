"""Second stage of MaskTrack R-CNN and CMaskTrack R-CNN: classes, boxes, masks and embeddings of regions."""
from mmdet.models.roi_heads.bbox_head import Shared2FCBBoxHead
from mmdet.models.roi_heads.calibrated_track_head import CalibratedTrackHead
from mmdet.models.roi_heads.mask_head import FCNMaskHead
from mmdet.models.roi_heads.track_head import TrackHead

__all__ = ['CalibratedTrackHead', 'FCNMaskHead', 'Shared2FCBBoxHead', 'TrackHead']
