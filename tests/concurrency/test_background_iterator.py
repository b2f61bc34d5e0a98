"""The thread that works ahead: order, bounds, errors, early ends."""
import threading
import time

import pytest

from mmdet.concurrency import in_background


def threads():
    return [thread for thread in threading.enumerate() if thread.name == 'frames']


def test_same_items_from_another_thread():
    makers = set()

    def items():
        for number in range(50):
            makers.add(threading.current_thread().name)
            yield number

    assert list(in_background(items(), 2)) == list(range(50))
    assert makers == {'frames'} and not threads()


def test_never_more_than_the_bound_ahead():
    made = []
    stream = in_background((made.append(number) or number for number in range(100)), 3)
    assert next(stream) == 0
    time.sleep(0.3)
    assert len(made) <= 5  # the one taken, three in line, one in hand
    stream.close()


def test_error_after_the_items_before_it():
    def items():
        yield 1
        raise KeyError('broken')

    stream = in_background(items(), 4)
    assert next(stream) == 1
    with pytest.raises(KeyError, match='broken'):
        next(stream)


def test_closing_early_closes_the_source_and_ends_the_thread():
    closed = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    stream = in_background(items(), 2)
    next(stream)
    stream.close()
    assert closed.is_set() and not threads()


def test_work_overlaps():
    both = threading.Barrier(2)  # reached only by an item that is made while the one before it is processed

    def items():
        yield 0
        for number in range(1, 10):
            both.wait(60)
            yield number

    for number in in_background(items(), 2):
        if number < 9:
            both.wait(60)
