from mmdet.datasets.samplers.aspect_ratio_batch_sampler import AspectRatioBatchSampler
from mmdet.datasets.samplers.video_sampler import VideoSampler

__all__ = ['AspectRatioBatchSampler', 'VideoSampler']
