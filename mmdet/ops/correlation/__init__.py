"""Spatial correlation of two feature maps; CMaskTrack R-CNN's calibration calls it in training and in testing."""
from .compiled_library import build_summary
from .spatial_correlation import SpatialCorrelationSampler, spatial_correlation_sample

__all__ = ['SpatialCorrelationSampler', 'build_summary', 'spatial_correlation_sample']
