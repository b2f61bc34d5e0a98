"""Custom operators. Importing them never needs a compiler: unless built by `compile.sh`, they run as plain PyTorch."""
from .correlation import SpatialCorrelationSampler, spatial_correlation_sample

__all__ = ['SpatialCorrelationSampler', 'spatial_correlation_sample']
