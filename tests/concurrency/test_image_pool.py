"""Images are changed in other processes; the copies come back in any order of requests, errors as they were raised."""
import os
import signal

import numpy as np
import pytest

from mmdet.concurrency import ImagePool
from mmdet.errors import UserError


def change(image, amount):
    if amount == 13:
        raise UserError('13 is not painted')
    if amount == 99:
        os.kill(os.getpid(), signal.SIGKILL)
    image += amount
    image[0, 0] = os.getpid() % 256


@pytest.fixture
def pool():
    pool = ImagePool(change, processes=2, slot_bytes=300)
    yield pool
    pool.close()


def test_many_images_in_other_processes(pool):
    images = [np.full((4, 5, 3), index, np.uint8) for index in range(20)]
    futures = [pool.submit(image, 100) for image in images]  # more than there are slots
    for index, (image, future) in enumerate(zip(images, futures)):
        assert (image == index).all() and (future.result()[1:] == index + 100).all()
    processes = {int(future.result()[0, 0, 0]) for future in futures}
    assert os.getpid() % 256 not in processes and 1 <= len(processes) <= 2


def test_an_image_larger_than_a_slot_is_changed_here(pool):
    changed = pool.submit(np.zeros((20, 20, 3), np.uint8), 7).result()
    assert (changed[1:] == 7).all() and changed[0, 0, 0] == os.getpid() % 256


def test_an_error_is_that_of_its_image(pool):
    image = np.zeros((2, 2, 3), np.uint8)
    futures = [pool.submit(image, amount) for amount in (1, 13, 2)]
    with pytest.raises(UserError, match='13 is not painted'):
        futures[1].result()
    assert futures[0].result()[1, 1, 0] == 1 and futures[2].result()[1, 1, 0] == 2


def test_a_process_that_was_killed_is_one_line(pool):
    image = np.zeros((2, 2, 3), np.uint8)
    for amount in (99, 1):  # later images, too
        with pytest.raises(UserError, match='was ended; is the memory full'):
            pool.submit(image, amount).result()
