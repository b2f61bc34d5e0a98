"""MemCNP-VIS: online video instance segmentation with a memory-based conditional neural process."""
__version__ = '1.0.0'
