"""Mask logits of objects, computed without the upsampled map. Called by the MemCNP head in testing."""
from mmdet.ops.mask_logits.ops import mask_logits

__all__ = ['mask_logits']
