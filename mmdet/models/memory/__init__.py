"""The memory that the conditional neural process reads and writes. Part of CNPContrastHead."""
from mmdet.models.memory.cnp_memory import CNPMemory

__all__ = ['CNPMemory']
