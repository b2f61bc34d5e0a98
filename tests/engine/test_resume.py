"""A training that is stopped and resumed learns exactly what an uninterrupted one learns."""
import os
import signal

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn

from mmdet.engine import VideoRunner
from mmdet.errors import EXIT_PREEMPTED, UserError
from mmdet.registry import DATASETS, HOOKS, MODELS


@DATASETS.register_module()
class NoisyNumbers(torch.utils.data.Dataset):
    """Samples that differ in each epoch, as augmented images do."""

    metainfo = {'classes': ('number',)}

    def __len__(self):
        return 12

    def get_data_info(self, index):
        return {'wide': index % 3 == 0}

    def __getitem__(self, index):
        noise = np.random.default_rng(index.seed).random(2, np.float32)
        return {'inputs': torch.tensor([float(index + noise[0])]), 'data_samples': torch.tensor([float(noise[1])])}


@MODELS.register_module()
class NoisyRegression(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, inputs, data_samples, mode='loss'):
        predicted = self.dropout(self.linear(torch.stack(inputs)))
        return {'loss': (predicted - torch.stack(data_samples)).square().mean()}


@HOOKS.register_module()
class LossRecorder(Hook):
    """Keeps each iteration's loss; with ``stop_at`` this process receives a signal after that iteration."""

    def __init__(self, stop_at=None, number=signal.SIGTERM):
        self.stop_at, self.number, self.losses = stop_at, number, {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses[runner.iter] = float(outputs['loss'])
        if runner.iter + 1 == self.stop_at:
            os.kill(os.getpid(), self.number)


def build(work_dir, resume_from=None, stop_at=None, workers=0, seed=3, **changes):
    hooks = Config.fromfile('configs/_base_/default_runtime.py').default_hooks
    cfg = Config({
        'model': {'type': 'NoisyRegression'}, 'work_dir': str(work_dir), 'default_scope': 'mmdet',
        'default_hooks': hooks,
        'custom_hooks': [{'type': 'LossRecorder', 'stop_at': stop_at}],
        'train_dataloader': {'batch_size': 2, 'num_workers': workers, 'dataset': {'type': 'NoisyNumbers'},
                             'sampler': {'type': 'SeededSampler'},
                             'batch_sampler': {'type': 'AspectRatioBatchSampler'}},
        'train_cfg': {'type': 'ResumableTrainLoop', 'max_epochs': 3},
        'optim_wrapper': {'type': 'OptimWrapper', 'optimizer': {'type': 'SGD', 'lr': 0.003, 'momentum': 0.9}},
        'param_scheduler': [{'type': 'LinearLR', 'start_factor': 0.1, 'by_epoch': False, 'end': 10},
                            {'type': 'MultiStepLR', 'milestones': [1, 2]}],
        'randomness': {'seed': seed}, 'load_from': resume_from and str(resume_from), 'resume': bool(resume_from),
        'log_level': 'ERROR', 'experiment_name': f'{work_dir}{resume_from}'.replace('/', '_'),
        'env_cfg': {'mp_cfg': {'mp_start_method': 'fork', 'opencv_num_threads': 0}}, **changes})
    return VideoRunner.from_cfg(cfg)


PLAIN_LOADER = {'batch_size': 2, 'num_workers': 0, 'dataset': {'type': 'NoisyNumbers'},
                'sampler': {'type': 'SeededSampler'}}


def losses_of(runner):
    return next(hook for hook in runner.hooks if isinstance(hook, LossRecorder)).losses


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Losses and folder of the uninterrupted training: 3 epochs of 6 iterations."""
    folder = tmp_path_factory.mktemp('whole')
    runner = build(folder)
    runner.train()
    return losses_of(runner), folder


def test_every_epoch_is_saved_with_config_and_class_names(whole):
    losses, folder = whole
    assert sorted(path.name for path in folder.glob('*.pth')) == ['epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth']
    assert not list(folder.glob('.*.partial'))
    meta = torch.load(folder / 'epoch_2.pth', weights_only=True)['meta']
    assert meta['dataset_meta']['classes'] == ('number',)
    assert 'NoisyRegression' in meta['cfg'] and (meta['epoch'], meta['iter']) == (2, 12)
    assert sorted(losses) == list(range(18))


def test_resumes_from_an_epoch_with_equal_losses_and_bytes(whole, tmp_path):
    losses, folder = whole
    runner = build(tmp_path, folder / 'epoch_1.pth')
    runner.train()
    assert losses_of(runner) == {i: losses[i] for i in range(6, 18)}
    assert (tmp_path / 'epoch_3.pth').read_bytes() == (folder / 'epoch_3.pth').read_bytes()


@pytest.mark.parametrize('stop_at', [4, 6, 11])
def test_sigterm_saves_and_the_rest_follows(whole, tmp_path, stop_at):
    losses, folder = whole
    with pytest.raises(SystemExit) as stopped:
        build(tmp_path, stop_at=stop_at).train()
    assert stopped.value.code == EXIT_PREEMPTED
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN
    runner = build(tmp_path, tmp_path / f'iter_{stop_at}.pth')
    runner.train()
    assert losses_of(runner) == {i: losses[i] for i in range(stop_at, 18)}
    assert (tmp_path / 'epoch_3.pth').read_bytes() == (folder / 'epoch_3.pth').read_bytes()


def test_workers_change_nothing(whole, tmp_path):
    runner = build(tmp_path, workers=2)
    runner.train()
    assert losses_of(runner) == whole[0]


def test_another_seed_changes_the_losses_and_cannot_be_resumed(whole, tmp_path):
    losses, folder = whole
    runner = build(tmp_path, seed=4)
    runner.train()
    assert losses_of(runner) != losses
    with pytest.raises(UserError, match='--seed 3'):
        build(tmp_path, folder / 'epoch_1.pth', seed=4).train()


def test_weights_alone_cannot_be_resumed(whole, tmp_path):
    weights = tmp_path / 'weights.pth'
    torch.save({'state_dict': torch.load(whole[1] / 'epoch_1.pth')['state_dict']}, weights)
    with pytest.raises(UserError, match='--load_from'):
        build(tmp_path, weights).train()


def test_config_text_in_a_checkpoint_is_not_executed(whole, tmp_path):
    checkpoint = torch.load(whole[1] / 'epoch_2.pth')
    checkpoint['meta']['config'] = f'open({str(tmp_path / "executed")!r}, "w")'
    torch.save(checkpoint, tmp_path / 'hostile.pth')
    build(tmp_path, tmp_path / 'hostile.pth').train()
    assert not (tmp_path / 'executed').exists()


def test_another_epoch_length_scales_the_position(whole, tmp_path):
    runner = build(tmp_path, whole[1] / 'epoch_1.pth', train_dataloader=dict(PLAIN_LOADER, batch_size=4))
    runner.train()
    assert sorted(losses_of(runner)) == list(range(3, 9))


def test_resumes_with_samplers_that_cannot_skip(tmp_path):
    runner = build(tmp_path / 'whole', train_dataloader=PLAIN_LOADER)
    runner.train()
    with pytest.raises(SystemExit):
        build(tmp_path / 'parts', stop_at=8, train_dataloader=PLAIN_LOADER).train()
    resumed = build(tmp_path / 'parts', tmp_path / 'parts' / 'iter_8.pth', train_dataloader=PLAIN_LOADER)
    resumed.train()
    assert losses_of(resumed) == {i: losses_of(runner)[i] for i in range(8, 18)}
