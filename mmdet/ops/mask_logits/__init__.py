"""Mask logits of objects without the maps between. Called by the heads of MemCNP and SipMask."""
from mmdet.ops.mask_logits.ops import mask_logits

__all__ = ['mask_logits']
