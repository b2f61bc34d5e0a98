from mmdet.structures.boxes import aligned_legacy_box_iou, box_centers, legacy_box_iou
from mmdet.structures.data_sample import DetDataSample, TrackDataSample

__all__ = ['DetDataSample', 'TrackDataSample', 'aligned_legacy_box_iou', 'box_centers', 'legacy_box_iou']
