"""Transforms of the pipelines, each applied to all frames of a clip. Built by the data sets from a config."""
from mmdet.datasets.transforms.affine_colour import AffineColourReference
from mmdet.datasets.transforms.clip_augment import RandomChoiceResizeClip, RandomResizeCropClip, RotateStillClip
from mmdet.datasets.transforms.copy_paste import CopyPasteClip
from mmdet.datasets.transforms.frame_loading import BadFrameError, LoadTrackAnnotations, LoadTrackFrames, read_frame
from mmdet.datasets.transforms.geometry import RandomFlipClip, RandomResizeClip, ResizeClip
from mmdet.datasets.transforms.motion import AffineMotionClip
from mmdet.datasets.transforms.packing import PackTrackInputs
from mmdet.datasets.transforms.photometric import PhotometricDistortClip
from mmdet.datasets.transforms.scale_jitter import RandomScaleCropClip

__all__ = ['AffineColourReference', 'AffineMotionClip', 'BadFrameError', 'CopyPasteClip', 'LoadTrackAnnotations',
           'LoadTrackFrames', 'PackTrackInputs', 'PhotometricDistortClip', 'RandomChoiceResizeClip', 'RandomFlipClip',
           'RandomResizeClip', 'RandomResizeCropClip', 'RandomScaleCropClip', 'ResizeClip', 'RotateStillClip',
           'read_frame']
