"""Detectors: backbone, neck, heads and tracker, with the modes ``loss``, ``predict`` and ``tensor``."""
from mmdet.models.detectors.cmask_track_rcnn import CMaskTrackRCNN
from mmdet.models.detectors.fcos import FCOS
from mmdet.models.detectors.mask_track_rcnn import MaskTrackRCNN
from mmdet.models.detectors.sipmask_mem import SipMask, SipMaskMem
from mmdet.models.detectors.torchvision_tracker import TorchvisionTracker
from mmdet.models.detectors.videomt import VidEoMT

__all__ = ['FCOS', 'CMaskTrackRCNN', 'MaskTrackRCNN', 'SipMask', 'SipMaskMem', 'TorchvisionTracker', 'VidEoMT']
