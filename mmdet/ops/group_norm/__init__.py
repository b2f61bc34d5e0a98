"""Group norm with ReLU in one pass, for inference. Called by the heads' towers."""
from mmdet.ops.group_norm.group_norm import group_norm

__all__ = ['group_norm']
