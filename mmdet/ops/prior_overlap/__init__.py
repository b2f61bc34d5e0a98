"""Highest IoU of each box with the boxes before it, for Fast NMS."""
from mmdet.ops.prior_overlap.prior_overlap import prior_overlap

__all__ = ['prior_overlap']
