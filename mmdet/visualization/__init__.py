"""Frames and their objects as pictures: PNG, GIF, MP4; and the plots of training and evaluation."""
from .colors import color_of
from .gif import GifWriter
from .plots import plot_precision_recall, plot_training_curves
from .sequence import SequenceVisualizer, video_name
from .track_visualizer import TrackVisualizer
from .writers import FrameWriter, Mp4Writer, PngWriter

__all__ = [
    'FrameWriter', 'GifWriter', 'Mp4Writer', 'PngWriter', 'SequenceVisualizer', 'TrackVisualizer', 'color_of',
    'plot_precision_recall', 'plot_training_curves', 'video_name',
]
