from mmdet.datasets.transforms.geometry import RandomFlipClip, RandomResizeClip, ResizeClip
from mmdet.datasets.transforms.loading import BadFrameError, LoadTrackAnnotations, LoadTrackFrames, read_frame
from mmdet.datasets.transforms.packing import PackTrackInputs

__all__ = ['BadFrameError', 'LoadTrackAnnotations', 'LoadTrackFrames', 'PackTrackInputs', 'RandomFlipClip',
           'RandomResizeClip', 'ResizeClip', 'read_frame']
