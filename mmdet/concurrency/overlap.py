"""Work in two halves, of which the first half of one item overlaps with the second half of the item before.

Used in testing: while the GPU computes the next clip, the host encodes the masks of the last one and tracks its
objects (``mmdet/engine/test_steps.py``). Both halves run in the calling thread; the first one only launches work.
"""
from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

Item = TypeVar('Item')
Result = TypeVar('Result')
_END: Any = object()


def overlapped(items: Iterable[Item],
               start: Callable[[Item], Callable[[], Result]]) -> Generator[tuple[Item, Result], None, None]:
    """Yield each item and its result; an item is started before its predecessor is finished.

    Args:
        items: iterated one item ahead of the results.
        start: performs the first half of the work of an item, and returns a function that performs the second half and
            returns the result. The second halves are called once each, in order.

    Raises:
        Exception: an error of ``items`` or ``start``, after the results of all earlier items; an error of a second
            half, at once.
    """
    iterator = iter(items)
    begun: tuple[Item, Callable[[], Result]] | None = None
    error: Exception | None = None
    while True:
        following = None
        try:
            if (item := next(iterator, _END)) is not _END:
                following = item, start(item)
        except Exception as raised:
            error = raised
        if begun is not None:
            yield begun[0], begun[1]()
        if following is None:
            break
        begun = following
    if error is not None:
        raise error
