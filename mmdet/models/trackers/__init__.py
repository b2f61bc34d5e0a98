"""Stream states, and the association of detections with the tracks of earlier frames. Called by the detectors."""
from mmdet.models.trackers.association_tracker import AssociationTracker, TrackState
from mmdet.models.trackers.query_state import QueryState, logit_difference_range

__all__ = ['AssociationTracker', 'QueryState', 'TrackState', 'logit_difference_range']
