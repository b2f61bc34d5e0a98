"""A training of milliseconds for the tests of this folder: noisy numbers, a line fitted to them, the default hooks."""
import os
import signal

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn

from mmdet.engine import VideoRunner
from mmdet.registry import DATASETS, HOOKS, METRICS, MODELS


@DATASETS.register_module()
class NoisyNumbers(torch.utils.data.Dataset):
    """Samples that differ in each epoch, as augmented images do."""

    metainfo = {'classes': ('number',)}

    def __len__(self):
        return 12

    def get_data_info(self, index):
        return {'wide': index % 3 == 0}

    def __getitem__(self, index):
        noise = np.random.default_rng(getattr(index, 'seed', 0)).random(2, np.float32)
        return {'inputs': torch.tensor([float(index + noise[0])]), 'data_samples': torch.tensor([float(noise[1])])}


@MODELS.register_module()
class NoisyRegression(BaseModel):
    """``bad_at``: calls (counted from 0) whose loss becomes ``bad``, or only its gradient (``bad_gradient``)."""

    def __init__(self, bad_at=(), bad=float('nan'), bad_gradient=False):
        super().__init__()
        self.linear = nn.Linear(1, 1)
        self.dropout = nn.Dropout(0.5)
        self.bad_at, self.bad, self.bad_gradient, self.calls = bad_at, bad, bad_gradient, 0

    def forward(self, inputs, data_samples, mode='loss'):
        if mode == 'predict':
            return [{'value': float(self.linear(one))} for one in inputs]
        error = self.dropout(self.linear(torch.stack(inputs))) - torch.stack(data_samples)
        losses = {'loss_line': error.square().mean(), 'loss_slope': [self.linear.weight.square().sum() * 0.01]}
        if self.calls in self.bad_at:
            if self.bad_gradient:
                losses['loss_line'].register_hook(lambda gradient: gradient * self.bad)
            else:
                losses['loss_slope'] = [losses['loss_slope'][0] + self.bad]
        self.calls += 1
        return losses


@METRICS.register_module()
class MeanValue(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [sample['value'] for sample in data_samples]

    def compute_metrics(self, results):
        return {'mean': float(np.mean(results))}


@HOOKS.register_module()
class LossRecorder(Hook):
    """Keeps each iteration's loss, and slope and its momentum after it.

    This process receives a signal after an iteration of training or validation.
    """

    def __init__(self, stop_at=None, stop_at_val=None, number=signal.SIGTERM):
        self.stop_at, self.stop_at_val, self.number = stop_at, stop_at_val, number
        self.losses, self.states = {}, []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses[runner.iter] = float(outputs['loss'])
        slope = runner.model.linear.weight
        momentum = runner.optim_wrapper.optimizer.state[slope].get('momentum_buffer')
        self.states.append((float(slope.detach()), momentum and float(momentum)))
        if runner.iter + 1 == self.stop_at:
            os.kill(os.getpid(), self.number)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx == self.stop_at_val:
            os.kill(os.getpid(), self.number)


PLAIN_LOADER = {'batch_size': 2, 'num_workers': 0, 'dataset': {'type': 'NoisyNumbers'},
                'sampler': {'type': 'SeededSampler'}}
VALIDATION = {'val_dataloader': {**PLAIN_LOADER, 'sampler': {'type': 'DefaultSampler', 'shuffle': False}},
              'val_cfg': {'type': 'ValLoop'}, 'val_evaluator': {'type': 'MeanValue'}}


def build(work_dir, resume_from=None, stop_at=None, workers=0, seed=3, **changes):
    """A runner: 3 epochs of 6 iterations."""
    hooks = Config.fromfile('configs/_base_/default_runtime.py').default_hooks
    hooks.finite_loss.update(changes.pop('finite_loss', {}))
    cfg = Config({
        'model': {'type': 'NoisyRegression', **changes.pop('model', {})}, 'work_dir': str(work_dir),
        'default_scope': 'mmdet', 'default_hooks': hooks,
        'custom_hooks': [{'type': 'LossRecorder', 'stop_at': stop_at, **changes.pop('recorder', {})}],
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


def recorder_of(runner):
    return next(hook for hook in runner.hooks if isinstance(hook, LossRecorder))


def losses_of(runner):
    return recorder_of(runner).losses
