"""Videos as streams: frames from any source, a thread or process between the steps, results on disk as they come."""
from .background import in_background
from .frame_sink import FrameSink
from .results import VideoResultWriter
from .source import VideoFrame, VideoSource, open_video

__all__ = ['FrameSink', 'VideoFrame', 'VideoResultWriter', 'VideoSource', 'in_background', 'open_video']
