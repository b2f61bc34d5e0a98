"""Run-length encoding of all masks at once against pycocotools."""
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mmdet.structures import device_rle
from mmdet.structures.device_rle import columns_to_rle, ends_to_rle, fixed_ends, masks_to_rle
from mmdet.structures.masks import encode_masks


def check(masks, device='cpu'):
    """Compare both memory layouts, and ends of a fixed number, with pycocotools."""
    on_device, expected = torch.from_numpy(masks).to(device), encode_masks(masks)
    assert masks_to_rle(on_device) == expected
    assert columns_to_rle(on_device.transpose(1, 2).contiguous()) == expected
    assert columns_to_rle(on_device.transpose(1, 2)) == expected
    number, *ends = fixed_ends(on_device.transpose(1, 2), masks.size).tolist()
    assert ends_to_rle(np.array(ends[:number], np.int64), *masks.shape) == expected
    assert fixed_ends(on_device.transpose(1, 2), number // 2).tolist() == [number, *ends[:number // 2]]


@given(arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=9)))
@settings(max_examples=200, deadline=None)
def test_any_masks_as_pycocotools(masks):
    check(masks)


@pytest.mark.parametrize('block', [1, 2, 7, 64])
def test_blocks_may_end_anywhere(block, monkeypatch):
    monkeypatch.setattr(device_rle, '_BLOCK', block)
    rng = np.random.default_rng(0)
    for shape in ((3, 4, 5), (5, 1, 7), (4, 6, 1), (2, 8, 8)):
        check(rng.random(shape) < 0.5)


def test_on_each_device(device):
    check(np.random.default_rng(0).random((7, 33, 21)) < 0.3, device)


@given(st.integers(0, 2 ** 32 - 1))
@settings(max_examples=20, deadline=None)
def test_long_runs_as_pycocotools(seed):
    rng = np.random.default_rng(seed)
    masks = np.zeros((3, 700, 900), bool)
    for mask in masks:
        (y, x) = rng.integers(0, [[700], [900]], (2, 2))
        mask[min(y):max(y), min(x):max(x)] = True
    check(masks)


@pytest.mark.parametrize('value', [False, True])
def test_uniform_masks(value):
    masks = np.full((2, 480, 640), value)
    check(masks)


def test_no_masks():
    assert masks_to_rle(torch.zeros(0, 4, 5, dtype=torch.bool)) == []
    assert columns_to_rle(torch.zeros(0, 5, 4, dtype=torch.bool)) == []
