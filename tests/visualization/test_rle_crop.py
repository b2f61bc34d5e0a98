import numpy as np
import pytest
from pycocotools import mask as mask_utils

from mmdet.visualization.rle_crop import crop_rle


def pasted(crop: tuple[np.ndarray, int, int], shape: tuple[int, int]) -> np.ndarray:
    mask, x, y = crop
    whole = np.zeros(shape, np.uint8)
    whole[y:y + mask.shape[0], x:x + mask.shape[1]] = mask
    return whole


@pytest.mark.parametrize('density', [0, 0.02, 0.5, 0.98, 1])
def test_same_pixels_as_pycocotools(density):
    rng = np.random.default_rng(0)
    for _ in range(100):
        shape = tuple(rng.integers(1, 40, 2))
        mask = (rng.random(shape) < density).astype(np.uint8)
        rle = mask_utils.encode(np.asfortranarray(mask))
        for margin in (0, 2):
            np.testing.assert_array_equal(pasted(crop_rle(rle, margin), shape), mask)


def test_crop_is_tight_up_to_margin_and_frame():
    mask = np.zeros((20, 30), np.uint8)
    mask[1:5, 10:13] = 1
    rle = mask_utils.encode(np.asfortranarray(mask))
    crop, x, y = crop_rle(rle)
    assert (crop.shape, x, y) == ((4, 3), 10, 1) and crop.all()
    crop, x, y = crop_rle(rle, margin=3)
    assert (crop.shape, x, y) == ((8, 9), 7, 0)


@pytest.mark.parametrize(('counts', 'why'), [
    ([3, 2, 4], 'list'),
    ([1, 1, 0, 2, 5], 'an empty run inside'),
    ([0, 9], 'full'),
])
def test_other_forms(counts, why):
    values = np.repeat(np.arange(len(counts)) % 2, counts).reshape(3, 3, order='F')
    np.testing.assert_array_equal(pasted(crop_rle({'size': [3, 3], 'counts': counts}), (3, 3)), values, err_msg=why)


def test_counts_as_text():
    mask = np.eye(7, dtype=np.uint8)
    rle = mask_utils.encode(np.asfortranarray(mask))
    rle['counts'] = rle['counts'].decode()
    np.testing.assert_array_equal(pasted(crop_rle(rle), (7, 7)), mask)
