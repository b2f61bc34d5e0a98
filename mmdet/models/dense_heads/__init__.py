from mmdet.models.dense_heads.cnp_contrast_head import CNPContrastHead

__all__ = ['CNPContrastHead']
