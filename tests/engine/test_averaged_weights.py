"""The moving average of the weights: its values, what is validated, saved and tested, exact resuming, two processes."""
import os
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.device import utils as mmengine_device
from mmengine.hooks import Hook
from noisy_training import VALIDATION, build

from mmdet.engine import leave_processes
from mmdet.engine.hooks import EMAHook
from mmdet.errors import EXIT_PREEMPTED, UserError
from mmdet.registry import HOOKS
from tools.model_converters.publish_model import publish

MOMENTUM = .1
AVERAGE = dict(type='EMAHook', momentum=MOMENTUM)


@HOOKS.register_module()
class WeightRecorder(Hook):
    """Records the slope after each iteration, before and after each validation, and what is validated."""

    priority = 'VERY_HIGH'

    def __init__(self, stop_at=None, stop_at_val=None):
        self.stop_at, self.stop_at_val = stop_at, stop_at_val
        self.trained, self.validated, self.restored, self.metrics = [], [], [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.trained.append(_slope(runner))
        if runner.iter + 1 == self.stop_at:
            os.kill(os.getpid(), 15)

    def before_train_epoch(self, runner):
        self.restored.append(_slope(runner))

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.validated.append(_slope(runner))
        if batch_idx == self.stop_at_val:
            os.kill(os.getpid(), 15)

    def after_val_epoch(self, runner, metrics=None):
        self.metrics.append(metrics['mean'])


def _slope(runner):
    model = getattr(runner.model, 'module', runner.model)
    return model.linear.weight.detach().clone()


def averaging(folder, resume_from=None, hooks=(AVERAGE,), recorder=None, **changes):
    recorder = dict(type='WeightRecorder', **(recorder or {}))
    return build(folder, resume_from, custom_hooks=[*hooks, recorder], **VALIDATION | changes)


def recorded(runner):
    return next(hook for hook in runner.hooks if isinstance(hook, WeightRecorder))


def averages(weights, momentum=MOMENTUM):
    """The closed form of the average after each iteration, which begins with the first weights."""
    values = [weights[0]]
    for weight in weights[1:]:
        values.append((1 - momentum) * values[-1] + momentum * weight)
    return values


def read(folder, name):
    return torch.load(folder / name, weights_only=True)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """The uninterrupted training of 3 epochs of 6 iterations, each epoch validated."""
    folder = tmp_path_factory.mktemp('averaged')
    runner = averaging(folder)
    runner.train()
    return recorded(runner), folder


def test_the_average_is_validated_and_saved_and_the_training_goes_on_with_its_weights(whole):
    record, folder = whole
    expected = averages(record.trained)
    for epoch in range(3):
        last = 6 * epoch + 5
        torch.testing.assert_close(record.validated[6 * epoch], expected[last])
        assert not torch.allclose(record.validated[6 * epoch], record.trained[last])
        checkpoint = read(folder, f'epoch_{epoch + 1}.pth')
        torch.testing.assert_close(checkpoint['state_dict']['linear.weight'], expected[last])
        assert torch.equal(checkpoint['ema_state_dict']['module.linear.weight'], record.trained[last])
        if epoch < 2:
            assert torch.equal(record.restored[epoch + 1], record.trained[last])


@pytest.mark.parametrize('stop', [dict(stop_at=4), dict(stop_at=7), dict(stop_at_val=2)],
                         ids=['first epoch', 'second epoch', 'in a validation'])
def test_a_stopped_training_is_resumed_exactly(whole, tmp_path, stop):
    with pytest.raises(SystemExit) as stopped:
        averaging(tmp_path, recorder=stop).train()
    assert stopped.value.code == EXIT_PREEMPTED
    runner = averaging(tmp_path, next(tmp_path.glob('iter_*.pth')))
    runner.train()
    trained = recorded(runner).trained
    assert all(map(torch.equal, trained, whole[0].trained[-len(trained):]))
    for name in ('epoch_2.pth', 'epoch_3.pth'):
        assert (tmp_path / name).read_bytes() == (whole[1] / name).read_bytes()


@pytest.mark.parametrize('hooks', [(), (AVERAGE,)], ids=['a config without the hook', 'a config with it'])
def test_testing_a_checkpoint_uses_the_average(whole, tmp_path, hooks):
    record, folder = whole
    runner = averaging(tmp_path, hooks=hooks, test_dataloader=VALIDATION['val_dataloader'],
                       test_cfg=dict(type='TestLoop'), test_evaluator=VALIDATION['val_evaluator'],
                       train_dataloader=None, train_cfg=None, optim_wrapper=None, param_scheduler=None,
                       val_dataloader=None, val_cfg=None, val_evaluator=None)
    runner._load_from = str(folder / 'epoch_3.pth')
    assert runner.test()['mean'] == pytest.approx(record.metrics[-1], abs=1e-6)


def test_published_weights_are_the_average(whole, tmp_path):
    publish(str(whole[1] / 'epoch_3.pth'), str(tmp_path / 'published.pth'))
    published = read(tmp_path, 'published.pth')
    assert 'ema_state_dict' not in published
    torch.testing.assert_close(published['state_dict']['linear.weight'], averages(whole[0].trained)[-1])


def test_the_average_begins_with_the_weights_that_are_loaded(whole, tmp_path):
    """The file may lack all but the weights, which are those of the average."""
    start = read(whole[1], 'epoch_1.pth')['state_dict']
    torch.save(start, tmp_path / 'weights.pth')
    runner = averaging(tmp_path, load_from=str(tmp_path / 'weights.pth'))
    runner.train()
    record = recorded(runner)
    assert torch.equal(record.restored[0], start['linear.weight'])
    torch.testing.assert_close(record.validated[-1], averages(record.trained)[-1])


def test_resuming_with_and_without_the_hook(whole, tmp_path):
    with pytest.raises(UserError, match=r'EMAHook.* --load_from'):
        averaging(tmp_path, whole[1] / 'epoch_1.pth', hooks=()).train()
    averaging(tmp_path / 'plain', hooks=()).train()
    runner = averaging(tmp_path / 'resumed', tmp_path / 'plain/epoch_1.pth')
    runner.train()
    record = recorded(runner)
    torch.testing.assert_close(record.validated[-1], averages(record.trained)[-1])  # it begins where it is resumed


@pytest.mark.parametrize('begin', [dict(begin_iter=9), dict(begin_epoch=2)], ids=str)
def test_an_average_that_begins_later(tmp_path, begin):
    """Until then, the weights are saved and validated as they are, and a training can be resumed."""
    hooks, first = [AVERAGE | begin], 8 if 'begin_iter' in begin else 6
    runner = averaging(tmp_path, hooks=hooks)
    runner.train()
    record = recorded(runner)
    saved = [read(tmp_path, f'epoch_{epoch}.pth')['state_dict']['linear.weight'] for epoch in (1, 3)]
    assert torch.equal(saved[0], record.trained[5]) and torch.equal(record.validated[0], record.trained[5])
    torch.testing.assert_close(saved[1], averages(record.trained[first:])[-1])
    with pytest.raises(SystemExit):
        averaging(tmp_path / 'stopped', hooks=hooks, recorder=dict(stop_at=4)).train()
    averaging(tmp_path / 'stopped', tmp_path / 'stopped/iter_4.pth', hooks=hooks).train()
    assert (tmp_path / 'stopped/epoch_3.pth').read_bytes() == (tmp_path / 'epoch_3.pth').read_bytes()


@pytest.mark.parametrize(('begin', 'said'), [(dict(begin_iter=19), 'begin_iter=19: the training ends at 18'),
                                             (dict(begin_epoch=4), 'begin_epoch=4: the training ends at 3')], ids=str)
def test_an_average_that_would_begin_after_the_end_is_refused(tmp_path, begin, said):
    with pytest.raises(UserError, match=said):
        averaging(tmp_path, hooks=[AVERAGE | begin]).train()


@pytest.mark.cuda
def test_a_training_on_a_gpu_is_resumed_exactly(tmp_path):
    averaging(tmp_path / 'whole').train()
    with pytest.raises(SystemExit):
        averaging(tmp_path, recorder=dict(stop_at_val=2)).train()
    averaging(tmp_path, tmp_path / 'iter_6.pth').train()
    whole, resumed = (read(folder, 'epoch_3.pth') for folder in (tmp_path / 'whole', tmp_path))
    for part in ('state_dict', 'ema_state_dict'):
        assert all(map(torch.equal, whole[part].values(), resumed[part].values()))


def environment(rank):
    return dict(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', OMP_NUM_THREADS='1',
                MKL_NUM_THREADS='1')


def train_as_second(folder, backend):
    """The second process; the first is that of the test."""
    torch.set_num_threads(1)
    os.environ.update(environment(1))
    if backend == 'gloo':
        torch.cuda.is_available, mmengine_device.DEVICE = lambda: False, 'cpu'
    train_on_rank(1, folder, backend)


def train_on_rank(rank, folder, backend):
    if backend == 'nccl':
        torch.cuda.set_device(rank)
    dist.init_process_group(backend, init_method=f'file://{folder}/meeting', rank=rank, world_size=2,
                            timeout=timedelta(minutes=2))
    try:
        runner = averaging(f'{folder}/work', launcher='pytorch')
        runner.train()
        hook = next(hook for hook in runner.hooks if isinstance(hook, EMAHook))
        record = [weight.cpu() for weight in (*recorded(runner).trained, hook.ema_model.module.linear.weight)]
        torch.save(record, f'{folder}/{rank}.pt')
        dist.barrier()
        averaging(f'{folder}/resumed', f'{folder}/work/epoch_1.pth', launcher='pytorch').train()
    finally:
        runner = hook = None  # wrapped models have the process group
        leave_processes()


@pytest.mark.slow
@pytest.mark.parametrize('backend', ['gloo', pytest.param('nccl', marks=pytest.mark.cuda(2))])
def test_two_processes_have_the_same_average_and_resume_exactly(tmp_path, monkeypatch, backend):
    second = mp.get_context('spawn').Process(target=train_as_second, args=(str(tmp_path), backend), daemon=True)
    second.start()
    for name, value in environment(0).items():
        monkeypatch.setenv(name, value)
    train_on_rank(0, str(tmp_path), backend)
    second.join(60)
    assert second.exitcode == 0
    record, other = (read(tmp_path, f'{rank}.pt') for rank in range(2))
    assert len(record) > 5 and all(map(torch.equal, record, other))
    *trained, average = record
    torch.testing.assert_close(average, averages(trained)[-1])
    whole, resumed = (read(tmp_path, f'{folder}/epoch_3.pth') for folder in ('work', 'resumed'))
    assert torch.equal(whole['state_dict']['linear.weight'], average)
    for part in ('state_dict', 'ema_state_dict'):
        assert all(map(torch.equal, whole[part].values(), resumed[part].values()))
