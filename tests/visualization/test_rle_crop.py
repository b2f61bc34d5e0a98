"""Masks decoded only around their objects have the same pixels as those decoded by pycocotools."""
import numpy as np
import pytest
from pycocotools import mask as mask_utils

from mmdet.visualization.rle_crop import crop_rles


def pasted(crop: tuple[np.ndarray, int, int], shape: tuple[int, int]) -> np.ndarray:
    mask, x, y = crop
    whole = np.zeros(shape, np.uint8)
    whole[y:y + mask.shape[0], x:x + mask.shape[1]] = mask
    return whole


@pytest.mark.parametrize('density', [0, 0.02, 0.5, 0.98, 1])
def test_same_pixels_as_pycocotools(density):
    rng = np.random.default_rng(0)
    masks = [(rng.random(rng.integers(1, 40, 2)) < density).astype(np.uint8) for _ in range(100)]
    rles = [mask_utils.encode(np.asfortranarray(mask)) for mask in masks]
    for margin in (0, 2):
        for crop, mask in zip(crop_rles(rles, margin), masks, strict=True):
            np.testing.assert_array_equal(pasted(crop, mask.shape), mask)


def test_crop_is_tight_up_to_margin_and_frame():
    mask = np.zeros((20, 30), np.uint8)
    mask[1:5, 10:13] = 1
    rle = mask_utils.encode(np.asfortranarray(mask))
    crop, x, y = crop_rles([rle])[0]
    assert (crop.shape, x, y) == ((4, 3), 10, 1) and crop.all()
    crop, x, y = crop_rles([rle], margin=3)[0]
    assert (crop.shape, x, y) == ((8, 9), 7, 0)


@pytest.mark.parametrize(('counts', 'why'), [
    ([3, 2, 4], 'list'),
    ([1, 1, 0, 2, 5], 'an empty run inside'),
    ([0, 9], 'full'),
])
def test_other_forms(counts, why):
    values = np.repeat(np.arange(len(counts)) % 2, counts).reshape(3, 3, order='F')
    crop, = crop_rles([{'size': [3, 3], 'counts': counts}])
    np.testing.assert_array_equal(pasted(crop, (3, 3)), values, err_msg=why)


def test_counts_as_text():
    mask = np.eye(7, dtype=np.uint8)
    rle = mask_utils.encode(np.asfortranarray(mask))
    rle['counts'] = rle['counts'].decode()
    np.testing.assert_array_equal(pasted(crop_rles([rle])[0], (7, 7)), mask)
