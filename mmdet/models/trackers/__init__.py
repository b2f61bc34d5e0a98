"""Which detection is which object of earlier frames. Called by the detectors, frame by frame."""
from mmdet.models.trackers.association_tracker import AssociationTracker

__all__ = ['AssociationTracker']
