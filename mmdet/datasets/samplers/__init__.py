"""Samplers for training and testing. Built by the runner from a config."""
from mmdet.datasets.samplers.seeded_sampler import AspectRatioBatchSampler, SeededIndex, SeededSampler
from mmdet.datasets.samplers.video_sampler import VideoSampler

__all__ = ['AspectRatioBatchSampler', 'SeededIndex', 'SeededSampler', 'VideoSampler']
