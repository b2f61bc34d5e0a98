"""Preprocessing between data loader and network: batches on the device, normalised and padded."""
from mmdet.models.data_preprocessors.track_data_preprocessor import TrackDataPreprocessor

__all__ = ['TrackDataPreprocessor']
