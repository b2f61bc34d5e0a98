"""An iterator that works ahead in a thread of its own.

The video inferencer decodes frames with it, training loads batches (mmdet/engine/prefetch.py).
"""
from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

Item = TypeVar('Item')
_POLL = 0.1  # seconds until a waiting thread looks whether it should stop
_PATIENCE = 5.0  # seconds that closing waits for a source that does not answer, such as a camera that was unplugged


class _End:
    """Put behind the last item; ``error`` is what ended the iterator."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def in_background(items: Iterator[Item], ahead: int, name: str = 'frames') -> Generator[Item, None, None]:
    """The same items; a thread has at most ``ahead`` of them ready. What the iterator raises is raised here.

    Args:
        items: used by the thread alone; a generator is closed there when this one ends or is closed.
        ahead: at least 1.
        name: of the thread.
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
        thread.join(_PATIENCE)
