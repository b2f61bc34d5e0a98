from mmdet.ops.deform_conv.ops import deform_conv3x3

__all__ = ['deform_conv3x3']
