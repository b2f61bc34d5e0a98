"""A training that is stopped and resumed learns exactly what an uninterrupted one learns."""
import signal

import pytest
import torch
from noisy_training import PLAIN_LOADER, VALIDATION, build, losses_of

from mmdet.errors import EXIT_PREEMPTED, UserError


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
