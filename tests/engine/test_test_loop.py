"""Testing: every clip once, in the precision asked for; a stop keeps what is done; overlapping changes no result.

Also the start of a test: the loader's workers and the reading of the checkpoint beside the building of the model.
"""
import multiprocessing
import os
import signal
import sys
import time

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from torch import nn

from mmdet.apis import load_config
from mmdet.engine import VideoRunner
from mmdet.engine.hooks import progress_hook
from mmdet.errors import EXIT_PREEMPTED, UserError
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


@MODELS.register_module()
class HalvesTypist(Typist):
    """The same in two halves; the signal is sent in one of them, and an error may be raised in the second."""

    def __init__(self, stop_in='start', fail_at=None, **kwargs):
        super().__init__(**kwargs)
        self.stop_in, self.fail_at = stop_in, fail_at
        self.stop_at, self._stop_at = None, self.stop_at

    def start_test_step(self, data):
        self._signal('start', data)

        def finish():
            self._signal('finish', data)
            if data['data_samples'][0].index == self.fail_at:
                raise UserError('the second half failed')
            return self.test_step(data)
        return finish

    def _signal(self, half, data):
        if self.stop_in == half and data['data_samples'][0].index == self._stop_at:
            os.kill(os.getpid(), self.number)


@MODELS.register_module()
class Witness(Typist):
    """Counts the processes that run while it is built, and may fail then."""

    workers = 0

    def __init__(self, fails=False, **kwargs):
        super().__init__(**kwargs)
        Witness.workers = len(multiprocessing.active_children())
        if fails:
            raise UserError('cannot be built')


@METRICS.register_module()
class Clerk(BaseMetric):
    default_prefix = ''
    partial: list = []

    def process(self, data_batch, data_samples):
        assert [clip.index for clip in data_batch['data_samples']] == [clip['index'] for clip in data_samples]
        self.results += [(clip['index'], clip['dtype']) for clip in data_samples]

    def compute_metrics(self, results):
        print('scores are computed', file=sys.stderr)
        return {'clips': [index for index, _ in results], 'dtypes': {dtype for _, dtype in results}}

    def write_partial(self):
        Clerk.partial = [index for index, _ in self.results]


def run(tmp_path, amp_dtype=None, overlap=None, load_from=None, loader=(), **model):
    return VideoRunner.from_cfg(Config({
        'model': {'type': 'Typist'} | model, 'work_dir': str(tmp_path), 'default_scope': 'mmdet', 'log_level': 'ERROR',
        'randomness': {'seed': 0},
        'test_dataloader': {'batch_size': 1, 'num_workers': 0, 'dataset': {'type': 'Clips'},
                            'sampler': {'type': 'DefaultSampler', 'shuffle': False}} | dict(loader),
        'test_cfg': {'type': 'InterruptibleTestLoop', 'amp_dtype': amp_dtype, 'overlap': overlap},
        'load_from': load_from, 'test_evaluator': {'type': 'Clerk'},
        'default_hooks': {'progress': {'type': 'ProgressHook'}}}))


@pytest.mark.parametrize(('name', 'dtype'), [(None, torch.float32), ('bfloat16', torch.bfloat16)])
def test_all_clips_in_the_precision_asked_for(tmp_path, capfd, name, dtype):
    assert run(tmp_path, name).test() == {'clips': [0, 1, 2, 3, 4, 5], 'dtypes': {dtype}}
    shown = capfd.readouterr().err
    assert 'frames/s' in shown and shown.index('scores are computed') > shown.rindex('test:')


def test_runs_within_a_second_have_their_own_logs_and_curves(tmp_path, monkeypatch):
    monkeypatch.setattr(time, 'time', lambda: 1.8e9)
    for name in ('first', 'second'):
        run(tmp_path / name).test()
        assert len(list((tmp_path / name).glob('*/*.log'))) == 1, name
        assert len(list((tmp_path / name).glob('*/vis_data/config.py'))) == 1, name


def test_the_log_has_the_rate_without_the_start(tmp_path, monkeypatch):
    """That of the last three of six clips, each of two frames."""
    seconds = iter([0.0, 10.0, 10.5, 11.0, 11.5, 12.0, 12.5])
    monkeypatch.setattr(progress_hook, 'perf_counter', lambda: next(seconds))
    runner = run(tmp_path)
    runner.test()
    assert runner.message_hub.get_scalar('test/frames_per_second').current() == pytest.approx(6 / 1.5)


@pytest.mark.parametrize(('number', 'status'), [(signal.SIGTERM, EXIT_PREEMPTED), (signal.SIGINT, 130)])
def test_a_stop_keeps_the_clips_that_are_done(tmp_path, number, status):
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path, stop_at=2, number=number).test()
    assert stopped.value.code == status and Clerk.partial == [0, 1, 2]
    assert signal.getsignal(number) is before


# ---------------------------------------------------------------------------------------------------------------------
# Clips that are launched before the last one is finished


def test_overlapping_tests_every_clip_once(tmp_path):
    found = run(tmp_path, 'bfloat16', overlap=True, type='HalvesTypist').test()
    assert found == {'clips': [0, 1, 2, 3, 4, 5], 'dtypes': {torch.bfloat16}}


@pytest.mark.parametrize(('stop_in', 'stop_at', 'done'), [
    ('start', 2, [0, 1, 2]), ('finish', 2, [0, 1, 2, 3]), ('start', 5, [0, 1, 2, 3, 4, 5]), ('start', 0, [0])])
def test_a_stop_keeps_the_clips_that_were_launched(tmp_path, stop_in, stop_at, done):
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path, overlap=True, type='HalvesTypist', stop_in=stop_in, stop_at=stop_at).test()
    assert stopped.value.code == EXIT_PREEMPTED and Clerk.partial == done


@pytest.mark.parametrize('overlap', [False, True])
def test_an_error_of_the_second_half_comes_after_the_earlier_clips(tmp_path, overlap):
    runner = run(tmp_path, overlap=overlap, type='HalvesTypist', fail_at=3)
    with pytest.raises(UserError, match='the second half failed'):
        runner.test()
    clerk, = runner.test_loop.evaluator.metrics
    assert [index for index, _ in clerk.results] == [0, 1, 2]


def test_result_files_are_equal_to_the_byte(toy_config, tmp_path):
    cfg = load_config(toy_config)
    loader = dict(cfg.test_dataloader, num_workers=0, persistent_workers=False)
    loader['dataset'] = dict(loader['dataset'], clip_len=2)
    files = []
    for overlap in (False, True):
        folder = tmp_path / str(overlap)
        runner = VideoRunner(
            model=cfg.model, work_dir=str(folder), default_scope='mmdet', log_level='ERROR', randomness=dict(seed=0),
            test_dataloader=loader, test_cfg=dict(type='InterruptibleTestLoop', overlap=overlap),
            test_evaluator=dict(cfg.test_evaluator, metric=[], out=str(folder / 'x.pkl')),
            experiment_name=str(folder).replace('/', '_'))
        torch.nn.init.constant_(runner.model.bbox_head.fcos_cls.bias, -1.0)
        runner.test()
        files.append([(folder / name).read_bytes() for name in ('x.pkl', 'x.pkl.json')])
    assert files[0] == files[1] and b'"counts"' in files[0][1]


# ---------------------------------------------------------------------------------------------------------------------
# The start of a test


@pytest.fixture
def checkpoint(tmp_path):
    torch.save(dict(state_dict=Typist().state_dict()), tmp_path / 'typist.pth')
    return str(tmp_path / 'typist.pth')


@pytest.mark.parametrize('workers', [dict(num_workers=2), dict(num_workers=1, persistent_workers=True)])
def test_clips_are_loaded_while_the_model_is_built(tmp_path, checkpoint, workers):
    runner = run(tmp_path, load_from=checkpoint, loader=workers, type='Witness')
    assert Witness.workers == workers['num_workers']
    assert runner.test()['clips'] == [0, 1, 2, 3, 4, 5]
    assert runner.model.state_dict()['linear.weight'].equal(torch.load(checkpoint)['state_dict']['linear.weight'])
    assert not multiprocessing.active_children()


def test_initial_weights_do_not_depend_on_the_loader(tmp_path, checkpoint):
    alone = run(tmp_path / 'alone').model.linear.weight
    assert run(tmp_path / 'beside', load_from=checkpoint).model.linear.weight.equal(alone)


@pytest.mark.parametrize('workers', [dict(num_workers=2), dict(num_workers=1, persistent_workers=True)])
def test_a_failing_start_leaves_no_workers(tmp_path, checkpoint, workers):
    with pytest.raises(UserError, match='cannot be built'):
        run(tmp_path / 'model', load_from=checkpoint, loader=workers, type='Witness', fails=True)
    assert Witness.workers and not multiprocessing.active_children()
    (tmp_path / 'damaged.pth').write_bytes(b'damaged')
    runner = run(tmp_path, load_from=str(tmp_path / 'damaged.pth'), loader=workers)
    with pytest.raises(UserError, match=r'damaged\.pth: refused'):
        runner.test()
    assert not multiprocessing.active_children()
