"""Preprocessing between data loader and network: copy to the device, normalisation, padding."""
from mmdet.models.data_preprocessors.track_data_preprocessor import TrackDataPreprocessor

__all__ = ['TrackDataPreprocessor']
