from mmdet.datasets.samplers import AspectRatioBatchSampler, VideoSampler
from mmdet.datasets.youtube_vis import OVISDataset, YVISDataset

__all__ = ['AspectRatioBatchSampler', 'OVISDataset', 'VideoSampler', 'YVISDataset']
