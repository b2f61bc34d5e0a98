from mmdet.models.data_preprocessors.track_data_preprocessor import TrackDataPreprocessor

__all__ = ['TrackDataPreprocessor']
