"""Data sets of videos and images, their files, checks, splits and samplers. Importing it registers them."""
from mmdet.datasets.coco_dataset import CocoDataset
from mmdet.datasets.coco_vis import COCOVIS
from mmdet.datasets.samplers import AspectRatioBatchSampler, SeededIndex, SeededSampler, VideoSampler
from mmdet.datasets.wrappers import WeightedConcatDataset
from mmdet.datasets.youtube_vis import OVISDataset, YVISDataset

__all__ = ['AspectRatioBatchSampler', 'COCOVIS', 'CocoDataset', 'OVISDataset', 'SeededIndex', 'SeededSampler',
           'VideoSampler', 'WeightedConcatDataset', 'YVISDataset']
