"""Spatial correlation of two feature maps; CMaskTrack R-CNN's calibration calls it in training and in testing."""
from .library import build_summary
from .ops import SpatialCorrelationSampler, spatial_correlation_sample

__all__ = ['SpatialCorrelationSampler', 'build_summary', 'spatial_correlation_sample']
