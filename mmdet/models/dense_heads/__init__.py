from mmdet.models.dense_heads.cnp_contrast_head import CNPContrastHead
from mmdet.models.dense_heads.rpn_head import RPNHead

__all__ = ['CNPContrastHead', 'RPNHead']
