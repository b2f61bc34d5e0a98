"""Visualisation of frames and their objects as PNG, GIF and MP4 files."""
from .colors import color_of
from .gif import GifWriter
from .log_visualizer import LogVisualizer
from .mp4 import Mp4Writer
from .sequence import SequenceVisualizer, video_name
from .track_visualizer import TrackVisualizer
from .writers import FrameWriter, PngWriter

__all__ = [
    'FrameWriter', 'GifWriter', 'LogVisualizer', 'Mp4Writer', 'PngWriter', 'SequenceVisualizer', 'TrackVisualizer',
    'color_of', 'video_name',
]
