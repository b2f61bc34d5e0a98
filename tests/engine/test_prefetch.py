"""Prefetching of training batches: none is lost, used twice or computed otherwise; threads end; errors are passed on.

Tests that are not marked ``cuda`` run on the CPU on every machine: a stand-in for the side stream lets the threads work
as they do beside a GPU.
"""
import threading
from argparse import Namespace
from contextlib import contextmanager

import pytest
import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import InstanceData
from noisy_training import PLAIN_LOADER, NoisyRegression, build, losses_of
from torch import nn

from mmdet.engine import prefetch
from mmdet.engine.prefetch import ReadyBatch, prefetched
from mmdet.errors import EXIT_PREEMPTED, UserError
from mmdet.models.data_preprocessors import TrackDataPreprocessor
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')


def threads():
    return [thread for thread in threading.enumerate() if thread.name == 'next batch']


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    assert not threads()


class StandIn:
    """Has no stream. Batches are preprocessed in one thread and handed over in another."""

    def __init__(self, preprocess, device):
        self.preprocess = preprocess

    def prepare(self, batch):
        batch = ReadyBatch(batch)
        batch.ready = self.preprocess(batch, True)
        return batch

    @staticmethod
    def hand_over(batch):
        assert threading.current_thread() is threading.main_thread()
        return batch


class Ready(BaseDataPreprocessor):
    deterministic_forward = True

    def __init__(self):
        super().__init__()
        self.makers = []

    def forward(self, data, training=False):
        assert training
        self.makers.append(threading.current_thread().name)
        return super().forward(data, training)


class Changed(Ready):
    """May compute something else than the class that is deterministic."""

    def forward(self, data, training=False):
        return super().forward(data, training)


@pytest.fixture
def on_cpu(monkeypatch):
    """Train on the CPU, whatever the machine has."""
    monkeypatch.setattr('mmengine.device.utils.DEVICE', 'cpu')


@pytest.fixture
def as_on_gpu(on_cpu, monkeypatch):
    """Train on the CPU, with a thread that works ahead as it would for a GPU."""
    monkeypatch.setattr(prefetch, '_on_gpu', lambda model: True)
    monkeypatch.setattr(prefetch, 'SideStream', StandIn)


def ready_training(*args, preprocessor=Ready, **kwargs):
    runner = build(*args, **{'workers': 2, **kwargs})
    device = next(runner.model.parameters()).device
    runner.model.data_preprocessor = preprocessor().to(device)
    return runner


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Losses and last checkpoint of a training on the CPU that does not work ahead."""
    folder = tmp_path_factory.mktemp('whole')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmengine.device.utils.DEVICE', 'cpu')
        runner = build(folder, workers=2)
        runner.train()
    return losses_of(runner), (folder / 'epoch_3.pth').read_bytes()


def test_training_learns_the_same(as_on_gpu, whole, tmp_path):
    runner = ready_training(tmp_path)
    runner.train()
    assert losses_of(runner) == whole[0] and (tmp_path / 'epoch_3.pth').read_bytes() == whole[1]
    preprocessor = runner.model.data_preprocessor
    assert preprocessor.makers == ['next batch'] * 18  # each batch once
    assert not runner.model._forward_hooks and 'forward' not in vars(preprocessor)


@pytest.mark.parametrize('stop_at', [4, 6, 11])
def test_a_stopped_training_goes_on_with_the_batch_after_the_last_learnt(as_on_gpu, whole, tmp_path, stop_at):
    with pytest.raises(SystemExit) as stopped:
        ready_training(tmp_path, stop_at=stop_at).train()
    assert stopped.value.code == EXIT_PREEMPTED and not threads()
    runner = ready_training(tmp_path, tmp_path / f'iter_{stop_at}.pth')
    runner.train()
    assert losses_of(runner) == {i: whole[0][i] for i in range(stop_at, 18)}
    assert (tmp_path / 'epoch_3.pth').read_bytes() == whole[1]


def test_samplers_that_cannot_skip(as_on_gpu, tmp_path):
    loader = {**PLAIN_LOADER, 'num_workers': 1}
    plain = build(tmp_path / 'whole', train_dataloader=loader)
    plain.train()
    with pytest.raises(SystemExit):
        ready_training(tmp_path, stop_at=8, train_dataloader=loader).train()
    resumed = ready_training(tmp_path, tmp_path / 'iter_8.pth', train_dataloader=loader)
    resumed.train()
    assert losses_of(resumed) == {i: losses_of(plain)[i] for i in range(8, 18)}


def test_hooks_see_the_batch_as_it_was_loaded(as_on_gpu, tmp_path):
    with pytest.raises(UserError, match='iteration 3: not finite'):
        ready_training(tmp_path, model={'bad_at': (2,)}).train()
    dump = torch.load(tmp_path / 'bad_loss_iter_3_rank_0.pth', weights_only=True)
    assert [inputs.shape for inputs in dump['inputs']] == [(1,), (1,)]


@pytest.mark.parametrize('error', [UserError('frame 7 is broken'), KeyError('inputs'), RuntimeError('out of memory')])
def test_errors_of_the_preprocessor(as_on_gpu, tmp_path, error):
    class Broken(Ready):
        deterministic_forward = True

        def forward(self, data, training=False):
            if len(self.makers) == 4:
                raise error
            return super().forward(data, training)

    runner = ready_training(tmp_path, preprocessor=Broken)
    with pytest.raises(type(error)) as raised:
        runner.train()
    assert raised.value is error and sorted(losses_of(runner)) == [0, 1, 2, 3]  # those before it were learnt from


def test_errors_of_a_worker(as_on_gpu, tmp_path, monkeypatch):
    runner = ready_training(tmp_path)
    dataset = runner.train_dataloader.dataset
    get = type(dataset).__getitem__
    monkeypatch.setattr(type(dataset), '__getitem__', lambda self, index: get(self, index) if index != 5 else 1 / 0)
    with pytest.raises(ZeroDivisionError, match='Caught ZeroDivisionError in DataLoader worker process'):
        runner.train()


@pytest.mark.parametrize('changes', [{'workers': 0}, {'preprocessor': Changed}, {'preprocessor': BaseDataPreprocessor},
                                     {'train_cfg': {'type': 'ResumableTrainLoop', 'max_epochs': 3, 'prefetch': False}}],
                         ids=['no workers', 'overridden', 'unaware', 'switched off'])
def test_where_batches_come_as_they_did(as_on_gpu, whole, tmp_path, monkeypatch, changes):
    monkeypatch.setattr(prefetch, 'SideStream', None)
    runner = ready_training(tmp_path, **changes)
    runner.train()
    assert losses_of(runner) == whole[0]


def test_hooks_that_change_a_batch(as_on_gpu):
    """Where ``ready`` is None, the preprocessor is called as ever; and it is used once."""
    preprocessor = Ready()
    batches = iter([{'inputs': torch.ones(1)}, {'inputs': torch.ones(1)}])
    with prefetched(batches, Namespace(num_workers=1), nn.Linear(1, 1), preprocessor) as ready:
        first, second = ready
        first['inputs'], first.ready = torch.zeros(1), None
        assert preprocessor(first, True)['inputs'].item() == 0
        prepared = second.ready
        assert preprocessor(second, True) is prepared and second.ready is None
        assert preprocessor(second, True) is not prepared
    assert preprocessor.makers == ['next batch'] * 2 + ['MainThread'] * 2


def test_without_a_gpu_nothing_changes():
    batches = object()
    with prefetched(batches, Namespace(num_workers=2), nn.Linear(1, 1), TrackDataPreprocessor()) as ready:
        assert ready is batches


class OnGPU(torch.Tensor):
    """Says that it is there."""

    is_cuda = True
    used = []

    def record_stream(self, stream):
        self.used.append((self.shape[0], stream))


def test_order_of_the_side_stream(monkeypatch):
    """Every wait, and that each piece of memory is kept for the stream that trains, once."""
    log = []

    class Stream:
        def __init__(self, name='side', index=3):
            self.name, self.device = name, torch.device('cuda', index)

        def wait_stream(self, other):
            log.append(f'{self.name} waits for {other.name}')

        def wait_event(self, event):
            log.append(f'{self.name} waits for {event}')

        def record_event(self):
            log.append('written')
            return 'event'

    @contextmanager
    def on(what):
        log.append(f'in {what.name if isinstance(what, Stream) else what}')
        yield
        log.append('out')

    main = Stream('main')
    monkeypatch.setattr(torch.cuda, 'Stream', lambda device: Stream(index=device.index))
    monkeypatch.setattr(torch.cuda, 'current_stream', lambda device: main)
    monkeypatch.setattr(torch.cuda, 'stream', on)
    monkeypatch.setattr(torch.cuda, 'device', on)
    monkeypatch.setattr(OnGPU, 'used', [])
    inputs, boxes = (torch.zeros(length).as_subclass(OnGPU) for length in (4, 6))
    clip = TrackDataSample(video_data_samples=[
        DetDataSample(gt_instances=InstanceData(bboxes=part)) for part in boxes.split(3)])
    batch = {'inputs': [torch.zeros(1)], 'data_samples': ['raw']}
    side = prefetch.SideStream(lambda data, training: {'inputs': inputs, 'data_samples': [clip], 'size': torch.ones(9)},
                               torch.device('cuda', 3))
    prepared = side.prepare(batch)
    assert log == ['side waits for main', 'in cuda:3', 'in side', 'written', 'out', 'out'] and not OnGPU.used
    ready = side.hand_over(prepared)
    assert ready == batch and ready.ready['inputs'] is inputs
    assert log[6:] == ['main waits for event'] and ready['data_samples'] == ['raw']
    assert sorted(OnGPU.used) == [(3, main), (4, main)] and prepared[1] == []


@needs_gpu
@pytest.mark.cuda
def test_memory_is_neither_read_before_it_is_written_nor_written_while_it_is_read():
    """Both streams are slow in turn: a missing wait or an early reuse of memory would show in the sums."""
    size, count, slow = 2 ** 22, 40, 20_000_000  # cycles, some 10 ms

    class Filled(Ready):
        deterministic_forward = True

        def forward(self, data, training=False):
            number = int(data['inputs'][0])
            inputs = data['inputs'].to(self.device, non_blocking=True)
            if number % 3 == 0:
                torch.cuda._sleep(slow)
            return {'inputs': inputs.float() * 1.0}

    model = nn.Linear(1, 1).cuda()
    preprocessor = Filled().to('cuda')
    batches = ({'inputs': torch.full((size,), number, dtype=torch.int32).pin_memory()} for number in range(count))
    sums = []
    with prefetched(batches, Namespace(num_workers=1), model, preprocessor) as ready:
        for number, batch in enumerate(ready):
            assert batch.ready is not None
            model(torch.ones(1, 1, device='cuda'))  # the sign
            if number % 2:
                torch.cuda._sleep(slow)
            inputs = preprocessor(batch, True)['inputs']
            sums.append(torch.stack([inputs.amin(), inputs.amax()]))
            del inputs, batch
    assert torch.stack(sums).tolist() == [[number, number] for number in range(count)]


@MODELS.register_module()
class NoisyConvolutions(NoisyRegression):
    """Images of noise through convolutions, to the numbers of the data set."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
                                  nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.scale = nn.Linear(16, 1)

    def forward(self, inputs, data_samples, mode='loss'):
        inputs = torch.stack(inputs)
        images = torch.rand(len(inputs), 3, 32, 48, device=inputs.device) * inputs[..., None, None]
        return super().forward(list(inputs * 0.1 + self.scale(self.stem(images))), data_samples, mode)


@needs_gpu
@pytest.mark.cuda
def test_losses_and_weights_on_a_gpu_are_bit_equal(tmp_path, monkeypatch):
    """The same operations on the same numbers, on another stream: where each is deterministic, no bit differs."""
    for name, value in (('deterministic', True), ('benchmark', False), ('allow_tf32', True)):
        monkeypatch.setattr(torch.backends.cudnn, name, value)
    trainings = []
    for name, on in (('with', True), ('without', False)):
        runner = ready_training(tmp_path / name, model={'type': 'NoisyConvolutions'}, train_cfg={
            'type': 'ResumableTrainLoop', 'max_epochs': 3, 'prefetch': on})
        assert next(runner.model.parameters()).is_cuda
        runner.train()
        assert set(runner.model.data_preprocessor.makers) == {'next batch' if on else 'MainThread'}
        trainings.append((losses_of(runner), runner.model.state_dict()))
    (losses, weights), (plain_losses, plain_weights) = trainings
    assert len(losses) == 18 and losses == plain_losses
    assert [name for name in weights if not torch.equal(weights[name], plain_weights[name])] == []


@needs_gpu
@pytest.mark.cuda
@pytest.mark.slow
@pytest.mark.parametrize('graphs', [False, True])
def test_a_detector_learns_the_same(toy_config, command, logged_losses, tmp_path, graphs):
    """Six epochs of two steps: enough for graphs to be captured beside the thread."""
    for name, on in (('with', True), ('without', False)):
        command('train.py', toy_config, '--work_dir', tmp_path / name, '--seed', 7, '--deterministic', '--cfg-options',
                f'train_cfg.prefetch={on}', f'model.graph_training={graphs}', 'train_cfg.max_epochs=6', on_gpu=True)
    assert logged_losses(tmp_path / 'with') == logged_losses(tmp_path / 'without')
    one, two = (torch.load(tmp_path / name / 'epoch_6.pth', weights_only=True)['state_dict']
                for name in ('with', 'without'))
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
