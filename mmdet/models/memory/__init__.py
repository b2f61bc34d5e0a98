from mmdet.models.memory.cnp_memory import CNPMemory

__all__ = ['CNPMemory']
