from mmdet.evaluation.metrics.youtube_vis_metric import YouTubeVISMetric

__all__ = ['YouTubeVISMetric']
