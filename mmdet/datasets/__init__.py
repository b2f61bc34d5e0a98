from mmdet.datasets.samplers import AspectRatioBatchSampler, SeededIndex, SeededSampler, VideoSampler
from mmdet.datasets.youtube_vis import OVISDataset, YVISDataset

__all__ = ['AspectRatioBatchSampler', 'OVISDataset', 'SeededIndex', 'SeededSampler', 'VideoSampler', 'YVISDataset']
