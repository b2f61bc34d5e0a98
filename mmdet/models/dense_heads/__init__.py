"""Heads that predict boxes, masks and embeddings at every location (MemCNP, SipMask, FCOS, RPN) or query (VidEoMT)."""
from mmdet.models.dense_heads.cnp_contrast_head import CNPContrastHead
from mmdet.models.dense_heads.fcos_head import FCOSHead
from mmdet.models.dense_heads.query_mask_criterion import QueryMaskCriterion
from mmdet.models.dense_heads.query_mask_head import QueryMaskHead
from mmdet.models.dense_heads.query_results import QueryTrackResults
from mmdet.models.dense_heads.rpn_head import RPNHead
from mmdet.models.dense_heads.sipmask_head import SipMaskHead

__all__ = ['CNPContrastHead', 'FCOSHead', 'QueryMaskCriterion', 'QueryMaskHead', 'QueryTrackResults', 'RPNHead',
           'SipMaskHead']
