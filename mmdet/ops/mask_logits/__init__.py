"""Mask logits of objects, computed without storing the upsampled map. Called by the MemCNP head in testing."""
from mmdet.ops.mask_logits.mask_logits import mask_logits

__all__ = ['mask_logits']
