"""Videos as streams: frames from any source, threads between the steps, results on the disk as they come."""
from .background import in_background
from .results import VideoResultWriter
from .source import VideoFrame, VideoSource, open_video

__all__ = ['VideoFrame', 'VideoResultWriter', 'VideoSource', 'in_background', 'open_video']
