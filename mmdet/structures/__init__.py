"""Boxes, masks and samples: data that every other part passes on."""
from mmdet.structures.boxes import aligned_legacy_box_iou, box_centers
from mmdet.structures.data_sample import DetDataSample, TrackDataSample
from mmdet.structures.masks import decode_masks, encode_masks, parse_segmentations, rle_boxes

__all__ = ['DetDataSample', 'TrackDataSample', 'aligned_legacy_box_iou', 'box_centers', 'decode_masks', 'encode_masks',
           'parse_segmentations', 'rle_boxes']
