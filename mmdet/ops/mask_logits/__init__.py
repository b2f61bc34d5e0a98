from mmdet.ops.mask_logits.ops import mask_logits

__all__ = ['mask_logits']
