"""Tests run on the CPU unless they are marked ``cuda``, so that the suite gives the same on machines with a GPU."""
import pytest
import torch
from mmengine.device import get_device

from mmdet.apis.inference import find_device


@pytest.fixture(scope='module')
def seen():
    return torch.cuda.is_available(), get_device()


def test_others_see_no_gpu(seen):
    assert seen == (False, 'cpu')
    assert not torch.cuda.device_count() and find_device(None).type == 'cpu'


@pytest.mark.cuda
def test_marked_ones_see_it():
    assert torch.cuda.is_available() and get_device() == find_device(None).type == 'cuda'


def test_exact_float32_is_set_and_taken_back(request):
    former = torch.backends.cudnn.allow_tf32
    request.getfixturevalue('exact_float32')
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    assert former is True  # PyTorch's default
