"""Run-length encoding on the device against pycocotools."""
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mmdet.structures.device_rle import masks_to_rle
from mmdet.structures.masks import encode_masks


@given(arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=9)))
@settings(max_examples=200, deadline=None)
def test_any_masks_as_pycocotools(masks):
    assert masks_to_rle(torch.from_numpy(masks)) == encode_masks(masks)


@given(st.integers(0, 2 ** 32 - 1))
@settings(max_examples=20, deadline=None)
def test_long_runs_as_pycocotools(seed):
    rng = np.random.default_rng(seed)
    masks = np.zeros((3, 700, 900), bool)
    for mask in masks:
        (y, x) = rng.integers(0, [[700], [900]], (2, 2))
        mask[min(y):max(y), min(x):max(x)] = True
    assert masks_to_rle(torch.from_numpy(masks)) == encode_masks(masks)


@pytest.mark.parametrize('value', [False, True])
def test_uniform_masks(value):
    masks = np.full((2, 480, 640), value)
    assert masks_to_rle(torch.from_numpy(masks)) == encode_masks(masks)


def test_no_masks():
    assert masks_to_rle(torch.zeros(0, 4, 5, dtype=torch.bool)) == []
