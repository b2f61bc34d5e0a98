"""What heads need besides layers: which location learns which object, anchors, box codes, NMS."""
from mmdet.models.task_modules.box_sampler import RandomBoxSampler
from mmdet.models.task_modules.cnp_assigners import CenterAssigner, UncertaintyAssigner
from mmdet.models.task_modules.hungarian import HungarianClipMatcher
from mmdet.models.task_modules.max_iou_assigner import MaxIoUAssigner

__all__ = ['CenterAssigner', 'HungarianClipMatcher', 'MaxIoUAssigner', 'RandomBoxSampler', 'UncertaintyAssigner']
