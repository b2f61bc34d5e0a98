"""Background work: iterators that run ahead in a thread, consumers in a thread or a process, and overlapping halves.

============================  ======================================================================================
:func:`in_background`         iterates in a thread, several items ahead; used for frames of videos
:class:`OnDemandIterator`     iterates in a thread, one item ahead, on request; used for training batches
:class:`BackgroundThread`     calls a function with each item in a thread; used for GIF and MP4 encoders
:class:`BackgroundProcess`    the same in a forked process; used for drawing and writing frames
:class:`ImagePool`            changes images in several forked processes; used for painting frames
:func:`overlapped`            runs in the calling thread and starts an item before it finishes the one before; used for
                              test steps on a GPU
============================  ======================================================================================

All of them hold a bounded number of items, keep the order, raise errors in the calling thread, and end when they are
closed.
"""
from .consumer import BackgroundConsumer, BackgroundThread
from .image_pool import ImagePool
from .iterator import OnDemandIterator, in_background
from .overlap import overlapped
from .process import BackgroundProcess

__all__ = ['BackgroundConsumer', 'BackgroundProcess', 'BackgroundThread', 'ImagePool', 'OnDemandIterator',
           'in_background', 'overlapped']
