"""What train() and test() refuse before anything is built, and where a resumed training starts."""
import os
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from mmengine.config import Config

from mmdet import apis
from mmdet.apis import init_model, load_config, train
from mmdet.apis.config import require
from mmdet.apis.training import default_work_dir
from mmdet.engine import VideoRunner, init_processes
from mmdet.errors import UserError

TOY = 'configs/memcnp_toy.py'


@pytest.mark.parametrize(('arguments', 'message'), [
    ({'load_from': 'none.pth'}, r'none\.pth: no such checkpoint file'),
    ({'resume_from': 'none.pth'}, r'none\.pth: no such checkpoint file'),
    ({'load_from': TOY, 'resume_from': TOY}, 'give one of them'),
    ({'work_dir': TOY}, 'is a file'),
    ({'seed': -1}, '--seed -1: '),
    ({'launcher': 'slurm'}, 'SLURM_PROCID is not set'),
    ({'launcher': 'pytorch'}, 'RANK is not set'),
    ({'launcher': 'mpi'}, 'OMPI_COMM_WORLD_RANK is not set')])
def test_training_refuses(arguments, message):
    with pytest.raises(UserError, match=message):
        train(load_config(TOY), **arguments)


def test_training_without_the_pre_trained_weights_names_the_remedy():
    cfg = load_config('configs/vitmae_cnp_contrast_ms_1x.py', [('model.backbone.init_cfg.checkpoint', 'none.pth')])
    with pytest.raises(UserError, match=r'none\.pth: no such file .*--cfg-options model\.backbone\.init_cfg=None'):
        train(cfg)


def test_validation_needs_a_validation_set():
    cfg = load_config(TOY)
    cfg.val_dataloader = None
    with pytest.raises(UserError, match='--validate'):
        train(cfg, validate=True)


def test_validation_needs_annotations(tmp_path):
    (tmp_path / 'valid.json').write_text('{"videos": [], "categories": [], "annotations": null}')
    cfg = load_config(TOY, [('val_evaluator.ann_file', str(tmp_path / 'valid.json'))])
    with pytest.raises(UserError, match=r'--validate: .*valid\.json has no annotations'):
        train(cfg, validate=True)


@pytest.mark.parametrize(('arguments', 'message'), [
    ({'checkpoint': 'none.pth'}, r'none\.pth: no such checkpoint file'),
    ({}, 'no checkpoint'),
    ({'checkpoint': 'x.pth', 'metrics': ()}, 'nothing to do with the results'),
    ({'checkpoint': 'x.pth', 'thresh': 2}, '--thresh 2'),
    ({'checkpoint': 'none.pth', 'out': 'x.json'}, r'--out x\.json: must end in \.pkl'),
    ({'checkpoint': 'x.pth', 'save_vis_path': 'pictures'}, 'have no effect without --show: add --show'),
    ({'checkpoint': 'x.pth', 'uncertainty': True}, 'have no effect without --show: add --show'),
    ({'checkpoint': 'x.pth', 'zip_result': True}, 'add --out'),
    ({'checkpoint': 'x.pth', 'dump_bbox': True}, 'add --out'),
    ({'load_result': 'x.pkl', 'show': True}, '--show')])
def test_testing_refuses(arguments, message):
    with pytest.raises(UserError, match=message):
        apis.test(load_config(TOY), **arguments)


@pytest.mark.parametrize(('key', 'value', 'message'), [
    ('train_cfg.max_epochs', 'abc', "max_epochs: 'abc' must be a number"),
    ('train_cfg.max_epochs', '0', 'max_epochs: 0'), ('train_dataloader.batch_size', '0', 'batch_size: 0'),
    ('train_dataloader.num_workers', '-1', 'num_workers: -1'),
    ('train_cfg.val_interval', '0', 'val_interval: 0'), ('train_cfg', '3', 'train_cfg: 3 must be a dict'),
    ('default_hooks', 'abc', "'abc' must be a dict"),
    ('default_hooks.checkpoint', 'abc', "config key default_hooks.checkpoint: 'abc' must be a dict"),
    ('default_hooks.checkpoint.interval', 'abc', "checkpoint.interval: 'abc' must be a number"),
    ('default_hooks.checkpoint.max_keep_ckpts', '2.5', 'max_keep_ckpts: 2.5'),
    ('default_hooks.checkpoint.save_begin', '-1', 'save_begin: -1'),
    ('default_hooks.logger.interval', '0', 'logger.interval: 0 must be a whole number of at least 1'),
    ('default_hooks.logger.interval', 'True', 'logger.interval: True'),
    ('default_hooks.logger.interval_exp_name', '0', 'interval_exp_name: 0'),
    ('default_hooks.finite_loss.max_skipped', 'many', "max_skipped: 'many'"),
    ('default_hooks.stop.interval', '0', 'stop.interval: 0'),
    ('optim_wrapper.optimizer.lr', 'fast', "lr: 'fast' must be a number")])
def test_impossible_numbers_are_named(key, value, message):
    with pytest.raises(UserError, match=message):
        train(load_config(TOY, [(key, value)]))


def test_a_hook_may_be_left_out():
    require(load_config(TOY, [('default_hooks.checkpoint', 'None')]), 'default_hooks')


def test_incomplete_configs_are_named(tmp_path):
    path = tmp_path / 'model_only.py'
    path.write_text('model = dict(bbox_head=dict(num_classes=3))')
    with pytest.raises(UserError, match=r'model_only\.py has no train_dataloader, train_cfg, optim_wrapper'):
        train(load_config(path))
    with pytest.raises(UserError, match=r'model_only\.py has no test_dataloader'):
        apis.test(load_config(path), 'x.pth')


def test_impossible_working_directory(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match=r'--work_dir .*file/below: cannot be made'):
        train(load_config(TOY), work_dir=str(tmp_path / 'file' / 'below'))


def test_weights_of_other_classes_are_refused(toy_config, tmp_path):
    cfg = load_config(toy_config)
    torch.save({'state_dict': init_model(cfg, device='cpu').state_dict(),
                'meta': {'dataset_meta': {'classes': ('square', 'disc', 'triangle')}}}, tmp_path / 'other.pth')
    with pytest.raises(UserError, match=r"other\.pth was trained on other classes .*: 2 differ, the first is 'square'"):
        apis.test(cfg, str(tmp_path / 'other.pth'), work_dir=str(tmp_path))


def test_working_directory():
    cfg = load_config(TOY)
    assert default_work_dir(cfg, None) == 'work_dirs/memcnp_toy'
    assert default_work_dir(cfg, 'w') == 'w'
    assert default_work_dir(Config({'work_dir': 'mine'}), None) == 'mine'


def test_a_single_process_joins_nothing():
    init_processes('none')
    assert not torch.distributed.is_initialized()


def test_init_model_gives_a_ready_model(tmp_path):
    model = init_model(TOY, device='cpu')
    torch.save({'state_dict': model.state_dict(), 'meta': {'dataset_meta': {'classes': ('a', 'b', 'c')}}},
               tmp_path / 'x.pth')
    other = init_model(load_config(TOY), tmp_path / 'x.pth', device='cpu')
    assert not other.training and other.dataset_meta == {'classes': ('a', 'b', 'c')}
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters()))


@pytest.fixture
def started(monkeypatch, toy_config, tmp_path):
    """Begins a training with ``--resume`` in a folder with checkpoints of these epochs; where it would start from."""
    def start(whole=(), cut_off=()):
        for epoch in (*whole, *cut_off):
            path = tmp_path / f'epoch_{epoch}.pth'
            torch.save({'a': torch.rand(1000)}, path)
            os.utime(path, (epoch, epoch))
            if epoch in cut_off:
                os.truncate(path, 2000)
        seen = []
        monkeypatch.setattr(VideoRunner, 'from_cfg', lambda cfg: seen.append(cfg) or Mock())
        train(load_config(toy_config), work_dir=str(tmp_path), resume_from='auto')
        return seen[0].load_from and Path(seen[0].load_from).name, seen[0].resume
    return start


def test_resume_without_a_path_takes_the_newest_whole_checkpoint(started):
    assert started(whole=(1, 2), cut_off=(3,)) == ('epoch_2.pth', True)


def test_resume_before_the_first_checkpoint_starts_anew(started, capsys):
    assert started(cut_off=(1,)) == (None, False)
    assert 'has no checkpoint to resume: training starts from the beginning' in capsys.readouterr().out
