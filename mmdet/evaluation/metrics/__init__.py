"""Scores as mmengine's metrics. Built by the runner from a config's evaluators."""
from mmdet.evaluation.metrics.coco_metric import CocoMetric
from mmdet.evaluation.metrics.youtube_vis_metric import YouTubeVISMetric

__all__ = ['CocoMetric', 'YouTubeVISMetric']
