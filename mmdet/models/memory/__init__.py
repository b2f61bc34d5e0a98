"""The memory of the conditional neural process, part of ``CNPContrastHead``."""
from mmdet.models.memory.cnp_memory import CNPMemory, unit_sets
from mmdet.models.memory.read_statistics import ReadStatistics
from mmdet.models.memory.video_memory import VideoMemory

__all__ = ['CNPMemory', 'ReadStatistics', 'VideoMemory', 'unit_sets']
