"""Strides of the gradients that processes share: DDP has nothing to warn of, and the numbers stay."""
import warnings

import pytest
import torch
import torch.distributed as dist
from torch import nn

from mmdet.engine import VideoRunner
from mmdet.engine.distributed import match_grad_strides


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/meeting', rank=0, world_size=1)
    torch.set_warn_always(True)  # else DDP warns once a process
    yield
    torch.set_warn_always(False)
    dist.destroy_process_group()


def small_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(6, 4, 1), nn.Conv2d(4, 5, 3), nn.Conv2d(5, 2, 1, bias=False))
    for index in (0, 2):  # as cuDNN gives gradients where maps have their channels side by side
        channels = model[index].in_channels
        model[index].weight.register_hook(
            lambda grad, channels=channels: grad.as_strided(grad.shape, (channels, 1, channels, channels)))
    return model


def warnings_of_a_step(model):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        model(torch.linspace(-1, 1, 2 * 6 * 25).view(2, 6, 5, 5)).square().sum().backward()
    return [str(warning.message) for warning in caught if 'Grad strides' in str(warning.message)]


def test_ddp_does_not_warn(one_process, monkeypatch):
    plain = nn.parallel.DistributedDataParallel(small_model())
    assert warnings_of_a_step(plain)  # else what follows shows nothing
    for module in ('mmdet.engine.runner', 'mmengine.runner.runner'):
        monkeypatch.setattr(f'{module}.get_device', lambda: 'cpu')
    monkeypatch.setenv('LOCAL_RANK', '0')
    runner = VideoRunner.__new__(VideoRunner)  # without a whole training
    runner._train_dataloader, runner._distributed, runner.cfg = {}, True, {}
    matched = runner.wrap_model(None, small_model())
    assert not warnings_of_a_step(matched)
    for mine, theirs in zip(matched.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad)


def test_frozen_convolutions_are_left_alone():
    model = nn.Sequential(nn.Conv2d(3, 2, 1).requires_grad_(False), nn.Conv2d(2, 2, 1))
    match_grad_strides(model)
    model(torch.ones(1, 3, 2, 2)).sum().backward()
    assert model[0].weight.grad is None and model[1].weight.grad.stride() == (2, 1, 1, 1)
