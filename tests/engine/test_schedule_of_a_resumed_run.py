"""--resume with another learning rate, schedule or length: what is used is said; --new_schedule takes the config's."""
from pathlib import Path

import pytest
from noisy_training import build, losses_of

from mmdet.apis import load_config
from mmdet.errors import UserError

SGD = {'type': 'SGD', 'lr': 0.003, 'momentum': 0.9}
WARM_UP = {'type': 'LinearLR', 'start_factor': 0.1, 'by_epoch': False, 'end': 10}
STEPS = {'type': 'MultiStepLR', 'milestones': [1, 2]}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Of a training of 3 epochs of 6 iterations."""
    folder = tmp_path_factory.mktemp('whole')
    build(folder).train()
    return folder


@pytest.fixture
def trained(monkeypatch):
    """Trains; returns the runner, its warnings, and the learning rate of each iteration."""
    def train(*args, **changes):
        runner = build(*args, **changes)
        said, rates = [], {}
        monkeypatch.setattr(runner.logger, 'warning', said.append)
        step = runner.call_hook

        def call_hook(name, **kwargs):
            if name == 'before_train_iter':
                rates[runner.iter] = runner.optim_wrapper.get_lr()['lr'][0]
            step(name, **kwargs)

        monkeypatch.setattr(runner, 'call_hook', call_hook)
        runner.train()
        return runner, said, rates
    return train


def changed(max_epochs=3, **optimizer):
    return {'optim_wrapper': {'type': 'OptimWrapper', 'optimizer': SGD | optimizer},
            'train_cfg': {'type': 'ResumableTrainLoop', 'max_epochs': max_epochs}}


def test_nothing_is_said_where_nothing_changed(folder, trained, tmp_path):
    assert trained(tmp_path, folder / 'epoch_1.pth')[1] == []
    assert trained(tmp_path)[1] == []


def test_another_learning_rate_is_said_and_not_used(folder, trained, tmp_path):
    _, said, rates = trained(tmp_path, folder / 'epoch_1.pth', **changed(lr=0.03, weight_decay=0.1))
    assert said == [f'{folder}/epoch_1.pth: continues with its learning rate and schedule, not the config\'s: lr 0.003 '
                    '(config: 0.03), weight_decay 0 (config: 0.1). --new_schedule follows the config']
    assert rates[12] == pytest.approx(0.003 * 0.01)


def test_another_schedule_is_said_and_not_used(folder, trained, tmp_path):
    _, said, rates = trained(tmp_path, folder / 'epoch_1.pth', param_scheduler=[WARM_UP, STEPS | {'milestones': [2]}])
    assert len(said) == 1 and 'param_scheduler.1.milestones [1, 2] (config: [2])' in said[0]
    assert rates[12] == pytest.approx(0.003 * 0.01)
    assert 'schedulers (config: 1)' in trained(tmp_path, folder / 'epoch_1.pth', param_scheduler=[WARM_UP])[1][0]


def test_the_new_schedule_is_that_of_a_training_that_had_it_from_the_start(folder, trained, tmp_path):
    schedule = {**changed(lr=0.01, weight_decay=0.1), 'param_scheduler': [WARM_UP, STEPS | {'milestones': [2]}]}
    expected = trained(tmp_path / 'a', **schedule)[2]
    runner, said, rates = trained(tmp_path / 'b', folder / 'epoch_1.pth', new_schedule=True, **schedule)
    assert rates == {iteration: pytest.approx(expected[iteration]) for iteration in range(6, 18)}
    assert runner.optim_wrapper.optimizer.param_groups[0]['weight_decay'] == 0.1
    assert len(said) == 1 and "continues with the config's learning rate and schedule, not its" in said[0]
    # and that of the file, where nothing changed
    whole, resumed = trained(tmp_path / 'c'), trained(tmp_path / 'd', folder / 'epoch_1.pth', new_schedule=True)
    assert losses_of(resumed[0]) == {i: losses_of(whole[0])[i] for i in range(6, 18)}


def test_more_epochs_than_the_schedule_covers(folder, trained, tmp_path):
    steps = STEPS | {'end': 3}
    _, said, _ = trained(tmp_path, **changed(6), param_scheduler=[WARM_UP, steps])
    assert said == ['The schedule covers 3 of 6 epochs: after them the learning rate stays as it is; for a schedule of '
                    '6 epochs add --cfg-options param_scheduler.1.milestones=[2,4] param_scheduler.1.end=6']
    # a resumed one ends where the checkpoint's ends
    _, said, _ = trained(tmp_path, folder / 'epoch_3.pth', **changed(4))
    assert 'param_scheduler.1.end 3 (config: 4)' in said[0] and '--new_schedule' in said[0]
    assert said[1].startswith('The schedule covers 3 of 4 epochs') and said[1].endswith('--new_schedule')


def test_fewer_epochs_than_the_schedule_has(trained, tmp_path):
    cosine = {'type': 'CosineAnnealingLR', 'T_max': 4, 'end': 4, 'by_epoch': True, 'convert_to_iter_based': True}
    _, said, _ = trained(tmp_path, **changed(2), param_scheduler=[WARM_UP, cosine])
    assert said == ["The training ends after 2 of the schedule's 4 epochs; for a schedule of 2 epochs add "
                    '--cfg-options param_scheduler.1.T_max=2 param_scheduler.1.end=2']
    _, (line,), _ = trained(tmp_path / 'short', **changed(1), param_scheduler=[WARM_UP, cosine])
    assert 'for a schedule of 1 epoch add' in line


def test_a_finished_run_is_said(folder, trained, tmp_path):
    _, said, rates = trained(tmp_path, folder / 'epoch_3.pth')
    assert not rates and said == [f'{folder}/epoch_3.pth is the end of a training of 3 epochs: nothing is left to do; '
                                  'for more, add --cfg-options train_cfg.max_epochs=N']


@pytest.mark.parametrize(('wrapper', 'said'), [
    ({'type': 'OptimWrapper', 'optimizer': {'type': 'AdamW', 'lr': 1e-3}}, 'trained with another optimizer than AdamW'),
    ({'type': 'OptimWrapper', 'optimizer': SGD, 'paramwise_cfg': {'bias_lr_mult': 2.0}},
     'its optimizer has 1 group of 2 parameters, the config\'s 2 of 2'),
    ({'type': 'OptimWrapper', 'optimizer': SGD, 'paramwise_cfg': 'bias'}, 'paramwise_cfg must be a dict '),
    ({'type': 'OptimWrapper', 'optimizer': SGD | {'nesterov': 'x', 'lr': -1}}, 'optim_wrapper: cannot be built: ')])
def test_another_optimizer_is_one_line(folder, tmp_path, wrapper, said):
    with pytest.raises(UserError, match=said) as error:
        build(tmp_path, folder / 'epoch_1.pth', optim_wrapper=wrapper).train()
    assert '\n' not in str(error.value)


def test_parameters_are_listed_in_the_log_file_only(tmp_path, capsys):
    runner = build(tmp_path, log_level='INFO', optim_wrapper={
        'type': 'OptimWrapper', 'optimizer': SGD, 'paramwise_cfg': {'bias_lr_mult': 2.0}})
    runner.build_optim_wrapper(runner.cfg.optim_wrapper)
    assert 'paramwise_options' not in ''.join(capsys.readouterr())
    log, = tmp_path.glob('*/*.log')
    assert 'paramwise_options -- linear.bias:lr=0.006' in log.read_text()


@pytest.mark.parametrize('hook', [{'type': 'EarlyStoppingHook', 'monitor': 'x', 'rule': 'best'},
                                  {'type': 'EMAHook', 'ema_type': 'NoSuch'}])
def test_hooks_that_cannot_be_built_are_one_line(tmp_path, hook):
    with pytest.raises(UserError, match='custom_hooks: cannot be built'):
        build(tmp_path, custom_hooks=[hook]).train()


@pytest.mark.parametrize('path', sorted(Path('configs').glob('*.py')), ids=lambda path: path.stem)
def test_schedules_of_the_configs_have_the_length_of_the_training(path):
    cfg = load_config(path)
    ends = [scheduler.end for scheduler in cfg.param_scheduler if scheduler.get('by_epoch')]
    # VidEoMT's schedules count iterations
    assert max(ends, default=cfg.train_cfg.max_epochs) == cfg.train_cfg.max_epochs
    assert ends or path.stem.startswith('videomt')
