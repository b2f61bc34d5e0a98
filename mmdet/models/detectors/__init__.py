from mmdet.models.detectors.sipmask_mem import SipMaskMem

__all__ = ['SipMaskMem']
