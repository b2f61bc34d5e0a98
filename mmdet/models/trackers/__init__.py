"""Association of detections with the objects of earlier frames. Called by the detectors, frame by frame."""
from mmdet.models.trackers.association_tracker import AssociationTracker, TrackState

__all__ = ['AssociationTracker', 'TrackState']
