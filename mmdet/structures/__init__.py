"""Boxes, masks, samples and stream states: the data structures that all other parts exchange."""
from mmdet.structures.boxes import aligned_legacy_box_iou, box_centers, giou_loss, legacy_iou, pairwise_iou
from mmdet.structures.data_sample import DetDataSample, TrackDataSample
from mmdet.structures.masks import decode_masks, encode_masks, parse_segmentations, rle_boxes
from mmdet.structures.stream_state import StreamState, VideoStreams

__all__ = ['DetDataSample', 'StreamState', 'TrackDataSample', 'VideoStreams', 'aligned_legacy_box_iou', 'box_centers',
           'decode_masks', 'encode_masks', 'giou_loss', 'legacy_iou', 'pairwise_iou', 'parse_segmentations',
           'rle_boxes']
