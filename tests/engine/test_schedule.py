"""The learning rate of the default schedule, step by step, against the published formula."""
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from mmdet.registry import PARAM_SCHEDULERS

STEPS = 150  # iterations of an epoch, in this test


def published(iteration):
    """lr · 0.1^(milestones passed), during warm-up times 1 - (1 - i/1000)(1 - 1/80)."""
    rate = 0.001 * 0.1 ** sum(milestone <= iteration // STEPS for milestone in (8, 11))
    return rate * (1 - (1 - iteration / 1000) * (1 - 1 / 80)) if iteration < 1000 else rate


def test_learning_rate_of_every_iteration():
    cfg = Config.fromfile('configs/_base_/schedules/sgd_1x.py')
    wrapper = build_optim_wrapper(torch.nn.Linear(1, 1), cfg.optim_wrapper)
    schedulers = [PARAM_SCHEDULERS.build(scheduler, default_args={'optimizer': wrapper})
                  for scheduler in cfg.param_scheduler]
    rates = []
    for iteration in range(12 * STEPS):
        rates.append(wrapper.get_lr()['lr'][0])
        wrapper.optimizer.step()
        for scheduler in schedulers:
            if not scheduler.by_epoch or (iteration + 1) % STEPS == 0:
                scheduler.step()
    assert rates == pytest.approx([published(iteration) for iteration in range(12 * STEPS)], rel=1e-6)


def test_optimiser():
    cfg = Config.fromfile('configs/_base_/schedules/sgd_1x.py').optim_wrapper
    wanted = {'type': 'SGD', 'lr': 0.001, 'momentum': 0.9, 'weight_decay': 1e-4}
    assert {key: cfg.optimizer[key] for key in wanted} == wanted
    assert cfg.clip_grad == {'max_norm': 35, 'norm_type': 2}
