"""Setting of the C library's allocator, made by ``train.py``, ``test_video.py`` and ``benchmark.py``.

By default, glibc returns each large block that is freed to the operating system, and the next block of that size
consists of new pages, which the kernel clears and maps at their first use: on a CPU, a training step of small maps
spends a tenth of its time there, and a frame with masks of 1280×720 a fifth. The price is memory: up to a third more in
a process. Long videos and streams, which gain less, keep glibc's defaults.
"""
from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # parameters of mallopt, as in malloc.h
_VARIABLES = ('MALLOC_TRIM_THRESHOLD_', 'MALLOC_MMAP_THRESHOLD_', 'GLIBC_TUNABLES')
KEPT = 2 ** 30  # bytes


def keep_freed_memory() -> None:
    """Keep freed blocks of up to :data:`KEPT` bytes in this process, to use them again.

    Does nothing with another C library than glibc, and if one of glibc's environment variables sets its allocator.
    """
    if sys.platform != 'linux' or any(variable in os.environ for variable in _VARIABLES):
        return
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    # old versions refuse this size; the second setting alone would be slower than the defaults
    if mallopt is not None and mallopt(_M_MMAP_THRESHOLD, KEPT):
        mallopt(_M_TRIM_THRESHOLD, KEPT)
