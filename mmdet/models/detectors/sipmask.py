"""SipMask-VIS: MemCNP-VIS's detector with a :class:`~mmdet.models.dense_heads.SipMaskHead`; one class, two names."""
from mmdet.models.detectors.sipmask_mem import SipMaskMem
from mmdet.registry import MODELS

SipMask = MODELS.register_module(name='SipMask', module=SipMaskMem)
