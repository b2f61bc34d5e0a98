from mmdet.models.detectors.mask_track_rcnn import MaskTrackRCNN
from mmdet.models.detectors.sipmask_mem import SipMaskMem

__all__ = ['MaskTrackRCNN', 'SipMaskMem']
