"""Consumers that process items in the background: the interface, and the implementation with a thread.

A consumer is built from two functions: ``work`` processes an item, ``finish`` ends the work and returns its result.
"""
from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol


class BackgroundConsumer(Protocol):
    """The interface of :class:`BackgroundThread` and :class:`mmdet.concurrency.BackgroundProcess`."""

    def put(self, *item: Any) -> None:
        """Add an item to the queue; block while the queue is full.

        Raises:
            Exception: an error that ``work`` raised since the last call. After an error all later items are dropped.
        """

    def put_all(self, items: Sequence[tuple]) -> None:
        """Add several items, the arguments of :meth:`put`, to the queue, which may take less time than one by one."""

    def close(self) -> Any:
        """Wait for the items in the queue, call ``finish`` and return its result.

        Raises:
            Exception: an error that ``work`` raised since the last call, or that ``finish`` raised.
        """


class BackgroundThread:
    """Call a function with each item in a separate thread, in order.

    Args:
        work: called with each item. Items must not be changed after :meth:`put`.
        finish: called once by :meth:`close`, also after an error.
        ahead: size of the queue; :meth:`put` blocks while it is full.
        name: name of the thread.
        start: called in the thread before the first item; None: nothing.
    """

    def __init__(self, work: Callable[..., object], finish: Callable[[], Any], ahead: int = 8,
                 name: str = 'consumer', start: Callable[[], object] | None = None) -> None:
        self._work, self._finish = work, finish
        self._room = threading.Semaphore(ahead)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)  # one worker keeps the order
        self._error: Exception | None = None
        self._failed = False
        if start is not None:
            self._pool.submit(self._attempt, start)

    def put(self, *item: Any) -> None:
        """See :class:`BackgroundConsumer`."""
        self._raise_error()
        self._room.acquire()
        try:
            self._pool.submit(self._run, item)
        except RuntimeError:  # the interpreter is shutting down, and pools accept no more items
            self._pool.shutdown()
            self._run(item)

    def put_all(self, items: Sequence[tuple]) -> None:
        """See :class:`BackgroundConsumer`."""
        for item in items:
            self.put(*item)

    def close(self) -> Any:
        """See :class:`BackgroundConsumer`."""
        self._pool.shutdown()
        result = None
        try:
            result = self._finish()
        except Exception as error:
            self._error = self._error or error
        self._raise_error()
        return result

    def _run(self, item: tuple) -> None:
        try:
            self._attempt(self._work, *item)
        finally:
            self._room.release()

    def _attempt(self, function: Callable[..., object], *args: Any) -> None:
        try:
            if not self._failed:
                function(*args)
        except Exception as error:
            self._error, self._failed = error, True

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
