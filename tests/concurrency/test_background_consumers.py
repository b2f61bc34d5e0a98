"""Consumers in a thread and in a process: order, bounds, errors, ends. Both through the same interface."""
import os
import pickle
import signal
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mmdet.concurrency import BackgroundProcess, BackgroundThread
from mmdet.concurrency.process import dumps
from mmdet.errors import UserError

KINDS = [pytest.param(BackgroundThread, id='thread'),
         pytest.param(BackgroundProcess, id='process', marks=pytest.mark.skipif(
             not BackgroundProcess.available(), reason='needs processes that fork'))]


class Work:
    """Remembers the sum of each image and what came with it."""

    def __init__(self, fail_at=None, fail_finishing=False, seconds=0.0):
        self.fail_at, self.fail_finishing, self.seconds = fail_at, fail_finishing, seconds
        self.done = []

    def work(self, image, *others):
        time.sleep(self.seconds)
        if len(self.done) == self.fail_at:
            raise UserError(f'item {others[0]} is bad')
        self.done.append((None if image is None else (image.shape, image.sum().item()), *others))

    def finish(self):
        if self.fail_finishing:
            raise UserError('the disk is full')
        return os.getpid(), self.done


def image(number, size=(4, 6, 3)):
    return np.full(size, number, np.uint8)


@pytest.mark.parametrize('kind', KINDS)
def test_items_arrive_in_order_and_unchanged(kind):
    work = Work()
    consumer = kind(work.work, work.finish, ahead=3)
    for number in range(20):
        consumer.put(image(number) if number else None, number, {'name': f'{number}'})
    process, done = consumer.close()
    assert (process == os.getpid()) is (kind is BackgroundThread)
    assert done == [(((4, 6, 3), 72 * number) if number else None, number, {'name': f'{number}'})
                    for number in range(20)]


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('ahead', [2, 3, 16])
def test_several_items_at_once_are_those_one_by_one(kind, ahead):
    work = Work()
    consumer = kind(work.work, work.finish, ahead=ahead)
    for first in range(0, 20, 5):
        consumer.put_all([(image(number), number) for number in range(first, first + 5)])
        consumer.put_all([])
    assert consumer.close()[1] == [(((4, 6, 3), 72 * number), number) for number in range(20)]


@pytest.mark.parametrize('kind', KINDS)
def test_an_error_within_several_items_drops_the_rest(kind):
    work = Work(fail_at=2)
    consumer = kind(work.work, work.finish, ahead=4)
    with pytest.raises(UserError, match=r'^item 2 is bad$'):
        for number in range(0, 8000, 8):
            consumer.put_all([(image(0), place) for place in range(number, number + 8)])
    assert len(consumer.close()[1]) == 2


def test_arrays_arrive_as_pickle_would_bring_them_and_can_be_changed():
    arrays = [np.arange(6).reshape(2, 3), np.zeros((0, 4), np.float32), np.array([True]), np.float32([[1, 2]]).T,
              np.array(['text']), np.array([None]), np.array(3.5), np.arange(12.).reshape(3, 4)[:, ::2],
              np.array([(1, 2.)], dtype=[('a', int), ('b', float)])]
    for array, found in zip(arrays, pickle.loads(dumps(arrays))):
        np.testing.assert_array_equal(found, array, strict=True)
        assert found.dtype == array.dtype
        found[...] = array


@pytest.mark.parametrize('kind', KINDS)
def test_the_caller_waits_where_too_many_are_in_line(kind):
    work = Work(seconds=0.02)
    consumer = kind(work.work, work.finish, ahead=3)
    start = time.monotonic()
    for number in range(13):
        consumer.put(image(number), number)
    assert time.monotonic() - start > 0.15  # at least nine of them were done
    assert len(consumer.close()[1]) == 13


@pytest.mark.parametrize('kind', KINDS)
def test_an_error_is_raised_once_and_the_rest_dropped(kind):
    work = Work(fail_at=2)
    consumer = kind(work.work, work.finish, ahead=2)
    with pytest.raises(UserError, match=r'^item 2 is bad$'):
        for number in range(1000):
            consumer.put(image(number), number)
    consumer.put(image(0), 0)
    assert len(consumer.close()[1]) == 2


@pytest.mark.parametrize('kind', KINDS)
def test_items_can_be_added_after_an_error_of_one_that_was_waited_for(kind):
    work = Work(fail_at=0, seconds=0.05)
    consumer = kind(work.work, work.finish, ahead=1)
    with pytest.raises(UserError, match=r'^item 0 is bad$'):
        for number in range(1000):
            consumer.put(image(0), number)
    for number in range(3):
        consumer.put(image(0), number)
    assert consumer.close()[1] == []


@pytest.mark.parametrize('kind', KINDS)
def test_closing_raises_what_was_not_raised_yet(kind):
    work = Work(fail_at=0, fail_finishing=True)
    consumer = kind(work.work, work.finish)
    consumer.put(image(0), 7)
    with pytest.raises(UserError, match='item 7 is bad'):
        consumer.close()
    work = Work(fail_finishing=True)
    with pytest.raises(UserError, match='the disk is full'):
        kind(work.work, work.finish).close()


def test_images_larger_than_a_slot_and_of_other_types():
    work = Work()
    consumer = BackgroundProcess(work.work, work.finish, slot_bytes=4096)
    images = [np.arange(60 * 60 * 3).reshape(60, 60, 3).astype(np.uint8), image(3), np.ones((9, 16, 3), np.float32),
              np.random.default_rng(0).integers(0, 256, (9, 16, 3), dtype=np.uint8)[:, ::2]]
    for number, one in enumerate(images):
        consumer.put(one, number)
    assert [found for found, _ in consumer.close()[1]] == [(one.shape, one.sum().item()) for one in images]


@pytest.mark.skipif(not BackgroundProcess.available(), reason='needs processes that fork')
def test_a_connection_ends_when_the_main_process_closes_it():
    ours, theirs = socket.socketpair()
    work = Work()
    consumer = BackgroundProcess(work.work, work.finish)
    ours.close()
    theirs.settimeout(20)
    assert theirs.recv(1) == b''
    consumer.put(image(1), 'still running')
    assert len(consumer.close()[1]) == 1
    theirs.close()


def test_an_error_that_cannot_be_pickled():
    def work(image):
        raise ValueError(lambda: 'no pickle of this')

    consumer = BackgroundProcess(work, list)
    consumer.put(image(0))
    with pytest.raises(RuntimeError, match='ValueError'):
        consumer.close()


def test_a_killed_process_is_reported():
    work = Work()
    consumer = BackgroundProcess(work.work, work.finish, name='files')
    os.kill(consumer._process.pid, signal.SIGKILL)
    with pytest.raises(UserError, match=r'writes the files was ended \(status -9\)'):
        for number in range(1000):
            consumer.put(image(0), number)
    assert consumer.close() is None


def test_a_message_that_ends_half_way_is_the_end():
    """As when this process is killed while it sends."""
    work = Work()
    consumer = BackgroundProcess(work.work, work.finish)
    consumer.put(image(0), 5)
    os.write(consumer._items.fileno(), struct.pack('!i', 1000) + b'begun')
    consumer._items.close()
    while consumer._going:
        consumer._take_reply()
    assert [number for _, number in consumer._result[1]] == [5]


def test_a_thread_beside_the_main_thread_does_not_fork():
    """Another thread may hold a lock at that time, such as that of an encoder, which the new process would wait for."""
    with ThreadPoolExecutor(1) as threads:
        assert not threads.submit(BackgroundProcess.available).result()
