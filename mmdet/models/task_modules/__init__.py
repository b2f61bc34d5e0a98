from mmdet.models.task_modules.cnp_assigners import CenterAssigner, UncertaintyAssigner

__all__ = ['CenterAssigner', 'UncertaintyAssigner']
