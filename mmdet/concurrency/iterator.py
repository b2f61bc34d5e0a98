"""Iterators that run ahead in a separate thread.

Used for the frames of videos (``mmdet/apis/video_inferencer.py``) and for training batches
(``mmdet/engine/prefetch.py``).
"""
from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import Generic, TypeVar

Item = TypeVar('Item')
_POLL = 0.1  # seconds after which a blocked thread checks whether it should stop
_PATIENCE = 5.0  # seconds that closing waits for the thread


class _End:
    """Marks the end of the items; ``error`` is the exception that ended the iterator, if any."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def in_background(items: Iterator[Item], ahead: int, name: str = 'frames',
                  patience: float = _PATIENCE) -> Generator[Item, None, None]:
    """Yield the items of an iterator that runs in a thread, at most ``ahead`` of them in advance.

    Args:
        items: used by the thread alone; a generator is closed there when this one ends or is closed. Its exception is
            raised here, after the preceding items.
        ahead: maximum number of items in advance, at least 1.
        name: name of the thread.
        patience: maximum time in seconds that closing waits for an item in progress, whose source may be blocked. The
            thread then ends, and closes the source, as soon as that item is there.
    """
    ready: queue.Queue = queue.Queue(ahead)
    stopped = threading.Event()

    def hand_over(item: object) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=_POLL)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        error = None
        try:
            for item in items:
                if not hand_over(item):
                    break
        except BaseException as raised:
            error = raised
        finally:
            if hasattr(items, 'close'):
                items.close()
        hand_over(_End(error))

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    try:
        while not isinstance(item := ready.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        thread.join(patience)


class OnDemandIterator(Generic[Item]):
    """Iterate in a thread that fetches one item each time :meth:`begin` is called or an item is requested.

    All methods must be called from the same thread, the one that iterates.

    Args:
        items: used by the thread alone; its exception is raised where the item is requested.
        name: name of the thread.
    """

    def __init__(self, items: Iterator[Item], name: str) -> None:
        self._items = items
        self._permits = threading.Semaphore(0)  # number of items that the thread may still fetch
        self._begun = self._closed = False
        self._ready = in_background(self._permitted(), 1, name)

    def _permitted(self) -> Generator[Item, None, None]:
        """Yield an item for each permit; runs in the thread."""
        while self._permits.acquire() and not self._closed:
            try:
                yield next(self._items)
            except StopIteration:
                return

    def begin(self) -> None:
        """Let the thread fetch the next item; no effect if this was called since the last item."""
        if not self._begun:
            self._begun = True
            self._permits.release()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        self.begin()
        item = next(self._ready)
        self._begun = False
        return item

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._permits.release()
        self._ready.close()
