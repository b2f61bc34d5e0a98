"""Residual addition and layer norm in one pass, for inference. Called by the plain ViT under autocast."""
from mmdet.ops.residual_norm.residual_norm import add_layer_norm, layer_norm, uses_kernel

__all__ = ['add_layer_norm', 'layer_norm', 'uses_kernel']
