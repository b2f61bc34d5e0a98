"""Testing: every clip once, in the precision asked for; a stop keeps what is done."""
import os
import signal

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from torch import nn

from mmdet.engine import VideoRunner
from mmdet.errors import EXIT_PREEMPTED
from mmdet.registry import DATASETS, METRICS, MODELS
from mmdet.structures import DetDataSample, TrackDataSample


@DATASETS.register_module()
class Clips(torch.utils.data.Dataset):
    metainfo = {'classes': ('thing',)}

    def __len__(self):
        return 6

    def __getitem__(self, index):
        clip = TrackDataSample(metainfo={'index': index})
        clip.video_data_samples = [DetDataSample(), DetDataSample()]
        return {'inputs': torch.ones(2), 'data_samples': clip}


@MODELS.register_module()
class Typist(BaseModel):
    """Writes down the precision it computes in."""

    def __init__(self, stop_at=None, number=signal.SIGTERM):
        super().__init__()
        self.linear, self.stop_at, self.number = nn.Linear(2, 1), stop_at, number

    def forward(self, inputs, data_samples, mode):
        clip, = data_samples
        clip.set_metainfo({'dtype': self.linear(inputs[0]).dtype})
        if clip.index == self.stop_at:
            os.kill(os.getpid(), self.number)
        return data_samples


@METRICS.register_module()
class Clerk(BaseMetric):
    default_prefix = ''
    partial: list = []

    def process(self, data_batch, data_samples):
        self.results += [(clip['index'], clip['dtype']) for clip in data_samples]

    def compute_metrics(self, results):
        return {'clips': [index for index, _ in results], 'dtypes': {dtype for _, dtype in results}}

    def write_partial(self):
        Clerk.partial = [index for index, _ in self.results]


def run(tmp_path, amp_dtype=None, **model):
    return VideoRunner.from_cfg(Config({
        'model': {'type': 'Typist', **model}, 'work_dir': str(tmp_path), 'default_scope': 'mmdet', 'log_level': 'ERROR',
        'test_dataloader': {'batch_size': 1, 'num_workers': 0, 'dataset': {'type': 'Clips'},
                            'sampler': {'type': 'DefaultSampler', 'shuffle': False}},
        'test_cfg': {'type': 'InterruptibleTestLoop', 'amp_dtype': amp_dtype}, 'test_evaluator': {'type': 'Clerk'},
        'default_hooks': {'progress': {'type': 'ProgressHook'}}, 'experiment_name': str(tmp_path).replace('/', '_')}))


@pytest.mark.parametrize(('name', 'dtype'), [(None, torch.float32), ('bfloat16', torch.bfloat16)])
def test_all_clips_in_the_precision_asked_for(tmp_path, capfd, name, dtype):
    assert run(tmp_path, name).test() == {'clips': [0, 1, 2, 3, 4, 5], 'dtypes': {dtype}}
    assert 'frames/s' in capfd.readouterr().err


@pytest.mark.parametrize(('number', 'status'), [(signal.SIGTERM, EXIT_PREEMPTED), (signal.SIGINT, 130)])
def test_a_stop_keeps_the_clips_that_are_done(tmp_path, number, status):
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path, stop_at=2, number=number).test()
    assert stopped.value.code == status and Clerk.partial == [0, 1, 2]
    assert signal.getsignal(number) is before
