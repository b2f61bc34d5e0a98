"""A training that is stopped and resumed learns exactly what an uninterrupted one learns."""
import os
import signal

import pytest
import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from noisy_training import PLAIN_LOADER, VALIDATION, build, losses_of

from mmdet.errors import EXIT_PREEMPTED, UserError
from mmdet.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class ScaledOnCPU(AmpOptimWrapper):
    """``train.py --amp``'s wrapper for older GPUs, which mmengine builds on a GPU only."""

    def __init__(self, **kwargs):
        OptimWrapper.__init__(self, **kwargs)
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=2.0 ** 10, growth_interval=5)
        self.cast_dtype, self._scale_update_param = torch.bfloat16, None


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


def test_sigterm_while_validating_saves_what_was_trained(whole, tmp_path):
    """The rest of the validation is left out; the training goes on behind it."""
    losses, folder = whole
    with pytest.raises(SystemExit) as stopped:
        build(tmp_path, recorder={'stop_at_val': 1}, **VALIDATION).train()
    assert stopped.value.code == EXIT_PREEMPTED
    runner = build(tmp_path, tmp_path / 'iter_6.pth')
    runner.train()
    assert losses_of(runner) == {i: losses[i] for i in range(6, 18)}
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


def test_a_truncated_checkpoint_is_named_with_the_newest_whole_one(whole, tmp_path):
    for name in ('epoch_1.pth', 'epoch_2.pth'):
        (tmp_path / name).write_bytes((whole[1] / name).read_bytes())
    os.truncate(tmp_path / 'epoch_2.pth', 3000)
    with pytest.raises(UserError, match=r'epoch_2\.pth: damaged .* newest whole checkpoint .*epoch_1\.pth'):
        build(tmp_path, tmp_path / 'epoch_2.pth').train()


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


def test_the_loss_scale_is_resumed(tmp_path):
    """It halves at the gradient that overflows and doubles after five steps without one."""
    wrapper = {'type': 'ScaledOnCPU', 'optimizer': {'type': 'SGD', 'lr': 0.003}}
    whole = build(tmp_path / 'whole', optim_wrapper=wrapper,
                  model={'bad_at': (3,), 'bad': float('inf'), 'bad_gradient': True})
    whole.train()
    saved = [torch.load(tmp_path / 'whole' / f'epoch_{epoch}.pth', weights_only=True)['optimizer']['loss_scaler']
             for epoch in (1, 2, 3)]
    assert [(state['scale'], state['_growth_tracker']) for state in saved] == [(512, 2), (1024, 3), (2048, 4)]
    resumed = build(tmp_path / 'resumed', tmp_path / 'whole' / 'epoch_1.pth', optim_wrapper=wrapper)
    resumed.train()
    assert torch.load(tmp_path / 'resumed' / 'epoch_3.pth')['optimizer']['loss_scaler'] == saved[2]
    assert losses_of(resumed) == {i: losses_of(whole)[i] for i in range(6, 18)}
