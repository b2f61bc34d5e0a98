from mmdet.models.trackers.association_tracker import AssociationTracker

__all__ = ['AssociationTracker']
