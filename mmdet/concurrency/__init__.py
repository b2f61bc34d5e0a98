"""Work beside the main thread: iterators that run ahead in a thread, consumers in a thread or a process.

============================  ======================================================================================
:func:`in_background`         the items of an iterator, made ahead in a thread: frames of videos
:class:`OnDemandIterator`     the same, one item ahead and only after a permit: batches of a training
:class:`BackgroundThread`     calls a function with each item in a thread: encoders of GIF and MP4
:class:`BackgroundProcess`    the same in a forked process: drawing and writing of frames
============================  ======================================================================================

All of them hold a bounded number of items, keep their order, raise errors in the thread that uses them, and end when
they are closed.
"""
from .consumer import BackgroundConsumer, BackgroundThread
from .iterator import OnDemandIterator, in_background
from .process import BackgroundProcess

__all__ = ['BackgroundConsumer', 'BackgroundProcess', 'BackgroundThread', 'OnDemandIterator', 'in_background']
