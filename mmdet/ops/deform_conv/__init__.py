"""Deformable 3×3 convolution: Triton on NVIDIA GPUs, plain PyTorch elsewhere. Called by ``FeatureAlign``."""
from mmdet.ops.deform_conv.deform_conv import deform_conv3x3

__all__ = ['deform_conv3x3']
