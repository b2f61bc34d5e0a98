"""The iterator that takes an item in its thread only after a permit."""
import threading
import time

import pytest

from mmdet.concurrency import OnDemandIterator
from mmdet.errors import UserError


def threads():
    return [thread for thread in threading.enumerate() if thread.name == 'on demand']


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    assert not threads()


class Counted:
    """Numbers from 0 on; ``made`` are those that were taken, ``makers`` the threads that took them."""

    def __init__(self, stop=1000):
        self.stop, self.made, self.makers = stop, [], set()

    def __iter__(self):
        return self

    def __next__(self):
        if len(self.made) == self.stop:
            raise StopIteration
        self.makers.add(threading.current_thread().name)
        self.made.append(len(self.made))
        return self.made[-1]


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize('begin', [True, False])
def test_same_items_from_another_thread(begin):
    items, got = Counted(30), []
    ahead = OnDemandIterator(items, 'on demand')
    for item in ahead:
        got.append(item)
        if begin:
            ahead.begin()
    assert got == list(range(30)) and items.makers == {'on demand'}


def test_one_item_is_taken_per_permit_and_no_more():
    items = Counted()
    ahead = OnDemandIterator(items, 'on demand')
    ahead.begin()
    time.sleep(0.1)
    assert items.made == []  # nothing happens before the first request
    assert next(ahead) == 0
    time.sleep(0.1)
    assert items.made == [0]
    for _ in range(3):  # more permits for the same item change nothing
        ahead.begin()
    wait_for(lambda: len(items.made) == 2)
    time.sleep(0.1)
    assert items.made == [0, 1]
    assert [next(ahead), next(ahead)] == [1, 2] and items.made == [0, 1, 2]
    ahead.close()


def test_an_error_is_raised_where_its_item_is_requested():
    def items():
        yield 0
        raise UserError('broken.jpg')

    ahead = OnDemandIterator(items(), 'on demand')
    assert next(ahead) == 0
    ahead.begin()
    wait_for(lambda: not any(thread.is_alive() for thread in threads()))
    with pytest.raises(UserError, match=r'broken\.jpg'):
        next(ahead)


@pytest.mark.parametrize('permits', [0, 1])
@pytest.mark.parametrize('taken', [0, 1, 2])
def test_closing_at_any_time(taken, permits):
    items = Counted()
    ahead = OnDemandIterator(items, 'on demand')
    for _ in range(taken):
        next(ahead)
    for _ in range(permits):
        ahead.begin()
    start = time.monotonic()
    ahead.close()
    assert time.monotonic() - start < 2 and not threads()
    assert len(items.made) <= taken + permits
