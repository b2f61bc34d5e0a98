"""Metrics in the form of mmengine. Built by the runner from the evaluators of a config."""
from mmdet.evaluation.metrics.coco_metric import CocoMetric
from mmdet.evaluation.metrics.youtube_vis_metric import YouTubeVISMetric

__all__ = ['CocoMetric', 'YouTubeVISMetric']
