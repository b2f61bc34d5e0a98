"""Masks of the original image from mask probabilities of the network's input."""
from mmdet.ops.mask_resize.mask_resize import mask_resize

__all__ = ['mask_resize']
