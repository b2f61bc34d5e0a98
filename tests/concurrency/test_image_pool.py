"""Images are changed in other processes; the copies come back in any order of requests, errors as they were raised."""
import os
import signal
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mmdet.concurrency import ImagePool
from mmdet.errors import UserError


def change(image, amount):
    if amount == 13:
        raise UserError('13 is not painted')
    if amount == 14:
        raise ValueError(lambda: 'no pickle of this')
    if amount == 99:
        os.kill(os.getpid(), signal.SIGKILL)
    image += amount
    image[0, 0] = os.getpid() % 256
    return image[:, :1].copy() if amount == 50 else image


@pytest.fixture
def pool():
    pool = ImagePool(change, processes=2, slot_bytes=300)
    yield pool
    pool.close()


def test_many_images_in_other_processes(pool):
    images = [np.full((4, 5, 3), index, np.uint8) for index in range(20)]
    waiting, processes = deque(), set()
    for index, image in enumerate(images):
        waiting.append((index, pool.submit(image, 100)))
        assert (image == index).all()
        if len(waiting) == 4 or index == 19:
            for number, result in [waiting.popleft() for _ in range(len(waiting) if index == 19 else 1)]:
                changed = result()
                assert (changed[1:] == number + 100).all()
                processes.add(int(changed[0, 0, 0]))
    assert os.getpid() % 256 not in processes and len(processes) == 2


def test_an_image_larger_than_a_slot_is_changed_here(pool):
    changed = pool.submit(np.zeros((20, 20, 3), np.uint8), 7)()
    assert (changed[1:] == 7).all() and changed[0, 0, 0] == os.getpid() % 256


def test_an_error_is_that_of_its_image(pool):
    image = np.zeros((2, 2, 3), np.uint8)
    futures = [pool.submit(image, amount) for amount in (1, 13, 2)]
    with pytest.raises(UserError, match='13 is not painted'):
        futures[1]()
    assert futures[0]()[1, 1, 0] == 1 and futures[2]()[1, 1, 0] == 2


def test_a_result_of_another_shape(pool):
    result = pool.submit(np.full((4, 5, 3), 3, np.uint8), 50)()
    assert result.shape == (4, 1, 3) and (result[1:] == 53).all()


def test_an_error_that_cannot_be_pickled(pool):
    with pytest.raises(RuntimeError, match='ValueError'):
        pool.submit(np.zeros((2, 2, 3), np.uint8), 14)()


def test_results_keep_their_pixels_until_they_are_dropped(pool):
    """Also slices of them; the memory of results that nobody asked for is used again."""
    kept = [pool.submit(np.full((4, 5, 3), index, np.uint8), 100)()[2:] for index in range(4)]
    for _ in range(40):
        pool.submit(np.zeros((4, 5, 3), np.uint8), 7)
    assert [rows.tolist() for rows in kept] == [np.full((2, 5, 3), 100 + index).tolist() for index in range(4)]


def test_results_are_waited_for_by_two_threads(pool):
    results = [pool.submit(np.full((4, 5, 3), index, np.uint8), 1) for index in range(4)]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda result: int(result()[1, 1, 0]), [*reversed(results), *results]))
    assert found == [4, 3, 2, 1, 1, 2, 3, 4]


def test_a_process_that_was_killed_is_one_line(pool):
    image = np.zeros((2, 2, 3), np.uint8)
    killed, other, later = (pool.submit(image, amount) for amount in (99, 1, 1))
    for result in (killed, later):  # images take turns
        with pytest.raises(UserError, match='was ended; is the memory full'):
            result()
    assert other()[1, 1, 0] == 1


def test_preparation_runs_once_in_each_process_before_the_first_image(tmp_path):
    pool = ImagePool(change, 2, prepare=lambda: (tmp_path / str(os.getpid())).touch())
    for result in [pool.submit(np.zeros((2, 2, 3), np.uint8), 1) for _ in range(4)]:
        result()
    pool.close()
    assert len(list(tmp_path.iterdir())) == 2
