"""Label assignment, anchors, box coding, points and non-maximum suppression, used by the heads."""
from mmdet.models.task_modules.box_assignment import MaxIoUAssigner, RandomBoxSampler
from mmdet.models.task_modules.cnp_assigners import CenterAssigner, UncertaintyAssigner
from mmdet.models.task_modules.hungarian import HungarianClipMatcher

__all__ = ['CenterAssigner', 'HungarianClipMatcher', 'MaxIoUAssigner', 'RandomBoxSampler', 'UncertaintyAssigner']
