"""Overlaps and average precision as plain functions of arrays; called by the metrics and by tools."""
from mmdet.evaluation.functional.scored_tracks import (
    GroundTruth,
    load_result_json,
    load_result_list,
    of_common_videos,
    read_ground_truth,
    read_predictions,
    without_classes,
)
from mmdet.evaluation.functional.video_ap import match_tracks, precision_recall
from mmdet.evaluation.functional.video_iou import video_box_iou, video_mask_iou
from mmdet.evaluation.functional.vis_eval import VISEvalResult, evaluate_vis, score_tracks
from mmdet.structures.vis_json import Track

__all__ = ['GroundTruth', 'Track', 'VISEvalResult', 'evaluate_vis', 'load_result_json',
           'load_result_list', 'match_tracks', 'of_common_videos', 'precision_recall', 'read_ground_truth',
           'read_predictions', 'score_tracks', 'video_box_iou', 'video_mask_iou', 'without_classes']
