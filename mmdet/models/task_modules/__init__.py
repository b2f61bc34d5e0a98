"""What heads need besides layers: label assignment, anchors, box codes, points, non-maximum suppression."""
from mmdet.models.task_modules.box_assignment import MaxIoUAssigner, RandomBoxSampler
from mmdet.models.task_modules.cnp_assigners import CenterAssigner, UncertaintyAssigner
from mmdet.models.task_modules.hungarian import HungarianClipMatcher

__all__ = ['CenterAssigner', 'HungarianClipMatcher', 'MaxIoUAssigner', 'RandomBoxSampler', 'UncertaintyAssigner']
