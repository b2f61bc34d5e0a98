from mmdet.ops.group_norm.ops import group_norm

__all__ = ['group_norm']
