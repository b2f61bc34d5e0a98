"""``init_units='kmeans'``: the units are set once, before the first step, and not after a resume."""
import os
import signal
from types import SimpleNamespace

import pytest
import torch

from mmdet.apis import load_config, train
from mmdet.engine import MemoryInitHook
from mmdet.engine.hooks import memory_init_hook
from mmdet.errors import EXIT_PREEMPTED, UserError
from mmdet.registry import MODELS
from tests.helpers.models import build_memcnp
from train import main

OPTIONS = [('model.bbox_head.memory.init_units', 'kmeans'), ('model.bbox_head.num_units', '5'),
           ('train_dataloader.num_workers', '0')]


@pytest.fixture
def calls(monkeypatch):
    """Values and resulting units of each call that sets units."""
    seen = []
    original = memory_init_hook.initialize_units

    def initialize(memory, levels, seed):
        original(memory, levels, seed)
        seen.append((torch.cat(levels), memory.feat_units.weight.detach().clone()))

    monkeypatch.setattr(memory_init_hook, 'initialize_units', initialize)
    return seen


def train_with(toy_config, folder, epochs, **arguments):
    cfg = load_config(toy_config, [*OPTIONS, ('train_cfg.max_epochs', str(epochs))])
    train(cfg, work_dir=str(folder), seed=5, **arguments)
    return torch.load(folder / f'epoch_{epochs}.pth', weights_only=True)['state_dict']


def test_a_resumed_training_keeps_the_units_of_the_first_run(toy_config, tmp_path, calls):
    whole = train_with(toy_config, tmp_path, 2)
    (values, units), = calls
    assert values.shape[1] == 32 + 4 and units.shape == (5, 36)
    # means of values, in contrast to N(0, 1)
    assert ((units >= values.amin(dim=0)) & (units <= values.amax(dim=0))).all()
    assert bool(whole['bbox_head.mem.initialized'])
    resumed = train_with(toy_config, tmp_path, 2, resume_from=str(tmp_path / 'epoch_1.pth'))
    assert len(calls) == 1
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())


@pytest.mark.parametrize('head', [dict(num_units=0), dict(), dict(memory=dict(init_units='kmeans'))],
                         ids=['no memory', 'published', 'initialised'])
def test_other_memories_are_left_alone(head, calls):
    model = build_memcnp(embed_dims=32, channels=32, **head)
    if 'memory' in head:
        model.bbox_head.mem.initialized.fill_(True)
    MemoryInitHook().before_train(SimpleNamespace(model=model))
    assert calls == []


@pytest.mark.parametrize('arguments', [dict(images=0), dict(images=-3), dict(images=2.5), dict(samples='many')],
                         ids=str)
def test_wrong_numbers_are_one_line(arguments):
    (name, value), = arguments.items()
    with pytest.raises(UserError, match=f'MemoryInitHook {name} must be an integer of at least 1, not {value!r}'):
        MemoryInitHook(**arguments)


def test_weights_that_are_not_finite_are_reported_by_the_check_of_the_losses(toy_config, tmp_path, calls):
    cfg = load_config(toy_config, OPTIONS)
    weights = MODELS.build(cfg.model).state_dict()
    weights['neck.fpn_convs.0.conv.weight'][0] = torch.nan
    torch.save(dict(state_dict=weights), tmp_path / 'nan.pth')
    with pytest.raises(UserError, match='iteration 1: not finite: '):
        train(cfg, work_dir=str(tmp_path / 'out'), load_from=str(tmp_path / 'nan.pth'))
    (values, units), = calls
    assert values.isfinite().all() and units.isfinite().all()


def test_a_resumed_memory_of_another_size_is_one_line_with_averaged_weights_too(toy_config, tmp_path):
    average = [dict(type='EMAHook', momentum=0.002)]

    def resume(options):
        cfg = load_config(toy_config, [*OPTIONS, ('train_cfg.max_epochs', '1'), *options])
        cfg.custom_hooks = average
        train(cfg, work_dir=str(tmp_path), resume_from='auto')

    resume([])
    kept = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    # the trained units and their average are initialised, and differ since the second step
    averaged, trained = kept['state_dict'], kept['ema_state_dict']
    name = 'bbox_head.mem.feat_units.weight'
    assert bool(averaged['bbox_head.mem.initialized']) and bool(trained['module.bbox_head.mem.initialized'])
    assert 0 < (averaged[name] - trained[f'module.{name}']).abs().max() < 0.1
    for options in ([('model.bbox_head.num_units', '4')], [('model.bbox_head.memory.per_level', 'True')],
                    [('model.bbox_head.num_units', '0')]):
        with pytest.raises(UserError, match=r'epoch_1\.pth does not fit .* The memories differ: the file has 5 units'):
            resume(options)


def test_sigterm_while_the_units_are_set_ends_with_the_status_of_a_preempted_run(toy_config, tmp_path, monkeypatch):
    former = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(memory_init_hook, 'initialize_units', lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as stopped:
        main([str(toy_config), '--work_dir', str(tmp_path), '--cfg-options', *map('='.join, OPTIONS)])
    assert stopped.value.code == EXIT_PREEMPTED and signal.getsignal(signal.SIGTERM) == former
    assert not list(tmp_path.glob('*.pth'))
