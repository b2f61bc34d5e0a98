"""The memory of the conditional neural process, part of ``CNPContrastHead``."""
from mmdet.models.memory.cnp_memory import CNPMemory

__all__ = ['CNPMemory']
