"""Hooks, loggers, schedules, seeds and folders of a run: right, or one line before data and weights are read."""
import importlib.util
from collections import OrderedDict
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from mmengine.registry import DefaultScope

from mmdet import apis
from mmdet.apis import load_config, train
from mmdet.apis.run_checks import check_backends, check_schedule, infer_rules
from mmdet.engine import VideoRunner
from mmdet.errors import UserError
from mmdet.video.video_options import check_video_options

TOY = 'configs/memcnp_toy.py'
STOPPING = '[dict(type=EarlyStoppingHook,monitor={})]'


@pytest.fixture
def started(monkeypatch, toy_config, tmp_path):
    """Begins a training with these options; the config that the runner gets."""
    def start(*options, **arguments):
        seen = []
        monkeypatch.setattr(VideoRunner, 'from_cfg', lambda cfg: seen.append(cfg) or Mock())
        train(load_config(toy_config, options), work_dir=arguments.pop('work_dir', str(tmp_path)), **arguments)
        return seen[0]
    return start


@pytest.mark.parametrize(('monitor', 'rule'), [
    ('segm_AP', 'greater'), ('segm_AR10', 'greater'), ('segm_APho', 'greater'), ('bbox_AP50', 'greater')])
def test_hooks_that_watch_a_statistic_get_its_rule(started, monitor, rule):
    cfg = started(('custom_hooks', STOPPING.format(monitor)), ('val_evaluator.metric', '[segm,bbox]'),
                  ('default_hooks.checkpoint.save_best', f'[{monitor},segm_AP75]'), validate=True)
    assert cfg.custom_hooks[0].rule == rule
    assert cfg.default_hooks.checkpoint.save_best == [monitor, 'segm_AP75']
    assert cfg.default_hooks.checkpoint.rule == [rule, 'greater']


@pytest.mark.parametrize('name', ['memcnp_toy', 'videomt_base_ytvis2019', 'sipmask_swin-s_fpn_ms_1x'])
def test_schedules_are_checked_first_in_a_process(monkeypatch, name):
    """Before anything has set mmengine's scope, in which schedules of this project are found by name alone."""
    monkeypatch.setattr(DefaultScope, '_instance_dict', OrderedDict())
    check_schedule(load_config(f'configs/{name}.py'))


def test_rules_of_losses_and_those_that_are_given():
    cfg = load_config(TOY, [('custom_hooks', '[dict(type=EarlyStoppingHook,monitor=loss_cls),'
                                             'dict(type=EarlyStoppingHook,monitor=segm_AP,rule=less)]')])
    infer_rules(cfg)
    assert [hook.rule for hook in cfg.custom_hooks] == ['less', 'less']


def test_a_training_that_validates_keeps_the_best(started):
    assert started(validate=True).default_hooks.checkpoint.save_best == 'auto'
    assert started(('default_hooks.checkpoint', 'None'), validate=True).default_hooks.checkpoint is None


@pytest.mark.parametrize(('options', 'validate', 'said'), [
    ([('custom_hooks', STOPPING.format('segm_AP'))], False, r'custom_hooks\.0\.monitor: segm_AP .*add --validate'),
    ([('custom_hooks', STOPPING.format('segm_mAP'))], True, r"'segm_mAP' is not a statistic .*; there are segm_AP, "),
    ([('default_hooks.checkpoint.save_best', 'AP')], True, r"checkpoint\.save_best: 'AP' is not a statistic"),
    ([('custom_hooks', '[dict(type=EMAHook,momentum=2)]')], False, 'EMAHook momentum must be a number from 0 to 1'),
    ([('custom_hooks', '[dict(type=EMAHook,momentum=abc)]')], False, "EMAHook momentum must be .*, not 'abc'"),
    ([('custom_hooks', '[dict(type=EMAHook,momentum=1)]')], False, 'EMAHook momentum=1 must be above 0 and below 1'),
    ([('custom_hooks', '[dict(type=EMAHook,interval=0)]')], False, 'EMAHook interval must be an integer of at least 1'),
    ([('custom_hooks', '[dict(type=EMAHook,begin_epoch=1.5)]')], False, 'EMAHook begin_epoch must be an integer'),
    ([('custom_hooks', '[dict(type=EMAHook,momentun=.1)]')], False, r"custom_hooks\.0: .* argument 'momentun'"),
    ([('custom_hooks', '[dict(type=EMAHook),dict(type=EMAHook)]')], False, r'custom_hooks\.0 and custom_hooks\.1:'),
    ([('optim_wrapper.optimizer.betas', '[1,2,3]')], False, r'optim_wrapper\.optimizer: cannot be built'),
    ([('optim_wrapper.optimizer.betas', '[0.9]')], False, r'optim_wrapper\.optimizer: cannot be built'),
    ([('optim_wrapper.optimizer.lr', 'inf')], False, 'lr: inf must be a number above 0'),
    ([('optim_wrapper.clip_grad', 'dict(max_norm=-1)')], False, 'clip_grad.max_norm must be a number above 0, not -1'),
    ([('optim_wrapper.clip_grad', 'dict(max_norm=x)')], False, "clip_grad.max_norm must be a number above 0, not 'x'"),
    ([('optim_wrapper.clip_grad', 'dict(norm=1)')], False, r'clip_grad: cannot be built: .*argument \'norm\''),
    ([('param_scheduler.1.T_max', '[1]')], False, r'param_scheduler\.1\.T_max: .* must be a number'),
    ([('param_scheduler.0.begin', '30')], False, r'param_scheduler\.0: cannot be built: .*larger than begin'),
    ([('param_scheduler', 'dict(type=StepLR)')], False, r'param_scheduler\.0: cannot be built: .*step_size')])
def test_what_cannot_be_built_is_one_line(started, options, validate, said):
    with pytest.raises(UserError, match=said) as error:
        started(*options, validate=validate)
    assert '\n' not in str(error.value)


def test_gradients_may_be_clipped_by_value(tmp_path):
    """The type of ``clip_grad`` is not the name of a class."""
    path = tmp_path / 'by_value.py'
    path.write_text(f"_base_ = '{Path(TOY).absolute()}'\n"
                    "optim_wrapper = dict(clip_grad=dict(_delete_=True, type='value', clip_value=1.0))")
    check_schedule(load_config(path))
    with pytest.raises(UserError, match=r'clip_grad\.clip_value must be a number above 0'):
        check_schedule(load_config(path, [('optim_wrapper.clip_grad.clip_value', '-1')]))


@pytest.mark.parametrize(('backend', 'package'), [
    ('WandbVisBackend', 'wandb'), ('MLflowVisBackend', 'mlflow'), ('ClearMLVisBackend', 'clearml'),
    ('NeptuneVisBackend', 'neptune'), ('DVCLiveVisBackend', 'dvclive'), ('AimVisBackend', 'aim'),
    ('mmengine.WandbVisBackend', 'wandb')])
def test_loggers_that_are_not_installed_are_named(monkeypatch, started, backend, package):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == package else find_spec(name))
    options = [('visualizer.vis_backends', f'[dict(type=LocalVisBackend),dict(type={backend})]')]
    with pytest.raises(UserError, match=rf'vis_backends\.1: {backend} needs the package {package}, .*pip install'):
        started(*options)
    cfg = load_config(TOY, options)
    with pytest.raises(UserError, match='pip install'):
        check_backends(cfg)


def test_a_test_needs_the_loggers_too(monkeypatch, tmp_path):
    (tmp_path / 'x.pth').touch()
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    cfg = load_config(TOY, [('visualizer.vis_backends', '[dict(type=WandbVisBackend)]')])
    with pytest.raises(UserError, match='needs the package wandb'):
        apis.test(cfg, str(tmp_path / 'x.pth'))


def test_seed_and_determinism_of_the_config(started):
    assert started().randomness == dict(seed=42, deterministic=False)
    options = [('randomness.seed', '7'), ('randomness.deterministic', 'True')]
    assert started(*options).randomness == dict(seed=7, deterministic=True)
    assert started(*options, seed=1).randomness.seed == 1
    with pytest.raises(UserError, match="--seed '3': must be a whole number"):
        started(seed='3')


def test_resume_of_the_config(started, tmp_path):
    torch.save({}, tmp_path / 'epoch_1.pth')
    cfg = started(('resume', 'True'))
    assert (cfg.resume, cfg.load_from) == (True, str(tmp_path / 'epoch_1.pth'))
    torch.save({}, tmp_path / 'other.pth')
    assert started(('resume', 'True'), ('load_from', str(tmp_path / 'other.pth'))).load_from.endswith('other.pth')


def test_a_used_folder_is_refused(started, tmp_path):
    for name in ('epoch_1.pth', 'epoch_2.pth', 'iter_50.pth', 'epoch_10.pth'):
        torch.save({}, tmp_path / name)
    with pytest.raises(UserError, match=r'holds the checkpoints of an earlier training \(epoch_1\.pth, epoch_2\.pth, '
                                        r'epoch_10\.pth and 1 more\).*--resume, choose another folder'):
        started()
    with pytest.raises(UserError, match='earlier training'):
        started(load_from=str(tmp_path / 'epoch_1.pth'))
    assert started(resume_from='auto').resume and started(resume_from=str(tmp_path / 'epoch_1.pth')).resume
    assert not started(work_dir=str(tmp_path / 'new')).resume


def test_a_new_schedule_is_for_a_training_that_is_continued(started, tmp_path):
    with pytest.raises(UserError, match=r'--new_schedule is about .*add --resume'):
        started(new_schedule=True)
    torch.save({}, tmp_path / 'epoch_1.pth')
    assert started(resume_from='auto', new_schedule=True).new_schedule is True
    assert started(resume_from='auto').new_schedule is False


def test_full_float32_switches_tf32_off(started, exact_float32):
    torch.backends.cudnn.allow_tf32 = True
    started()
    assert torch.backends.cudnn.allow_tf32
    started(full_float32=True)
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(('arguments', 'said'), [
    ({'thresh': '0.3'}, "--thresh '0.3': is a str, not a number such as 0.3"),
    ({'start': '1'}, "--start '1': is a str, not a whole number such as 1"),
    ({'stride': 1.5}, '--stride 1.5: is a float'),
    ({'batch': True}, '--batch True: is a bool'), ({'max_size': '640'}, '--max-size'), ({'fps': '25'}, "--fps '25'"),
    ({'trails': '3'}, '--trails'), ({'end': '9'}, '--end'),
    ({'outputs': 'mp4'}, "outputs='mp4': give a list, such as")])
def test_strings_for_numbers(arguments, said):
    with pytest.raises(UserError, match=said):
        check_video_options(**arguments)


def test_a_threshold_is_a_number():
    with pytest.raises(UserError, match=r"--thresh '0\.3': is a str"):
        apis.test(load_config(TOY), 'x.pth', thresh='0.3')
