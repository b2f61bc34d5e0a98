"""Custom operators. Importing this never needs a compiler: without `compile.sh` they run as plain PyTorch."""
from .correlation import SpatialCorrelationSampler, spatial_correlation_sample

__all__ = ['SpatialCorrelationSampler', 'spatial_correlation_sample']
