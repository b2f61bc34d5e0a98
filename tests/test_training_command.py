"""The training command in processes of its own, on a tiny toy set: logs, resuming, several processes, faults."""
import signal
import time
from pathlib import Path

import pytest
import torch

from mmdet.errors import EXIT_PREEMPTED
from tests.helpers.processes import TORCHRUN

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def trained(toy_config, command, tmp_path_factory):
    """Working directory of a training of two epochs that validated after each."""
    folder = tmp_path_factory.mktemp('trained')
    done = command('train.py', toy_config, '--work_dir', folder, '--validate')
    return folder, done


def test_training_leaves_checkpoints_and_logs(trained, logged_losses):
    folder, done = trained
    assert done.stdout.count('running on the CPU') == 1
    names = {path.name for path in folder.glob('*.pth')}
    assert {'epoch_1.pth', 'epoch_2.pth'} <= names and len(names) == 3
    assert len(list(folder.glob('best_segm_AP_epoch_*.pth'))) == 1
    checkpoint = torch.load(folder / 'epoch_2.pth', weights_only=True)
    assert checkpoint['meta']['dataset_meta']['classes'] == ('disc', 'square', 'triangle')
    assert 'CNPContrastHead' in checkpoint['meta']['cfg']
    assert sorted(logged_losses(folder)) == [1, 2, 3, 4]
    assert list(folder.glob('*/vis_data/events.out.tfevents*')) and 'eta' in done.stdout and 'AP50' in done.stdout


def test_console_of_a_training_is_what_the_demo_shows(trained):
    """Three lines before the first loss, a line per loss, and each table of scores once."""
    done = trained[1]
    lines = [line for line in done.stdout.splitlines() if not line.startswith('warning: ')]
    assert [line.partition(':')[0] for line in lines[:3]] == [
        'No GPU is used', 'Settings and log', 'Epoch(train) [1][1/2]  lr']
    losses = [line for line in lines if line.startswith('Epoch(train)')]
    assert len(losses) == 4 and not any('grad_norm' in line or 'data_time' in line for line in losses)
    tables = done.stdout.count('segm, video AP and AR (%)')
    assert tables == 2 and done.stdout.count('AP75') == 2 and 'Epoch(val)' not in done.stdout
    log = Path(lines[1].partition(': ')[2]).read_text()
    for part in ('System environment', 'Config:', 'Hooks will be executed', 'grad_norm', 'Epoch(val)', 'AP75'):
        assert part in log and log.startswith('20')


def test_killed_training_resumes_with_the_same_losses(toy_config, trained, command, killed, logged_losses, tmp_path):
    killed('train.py', toy_config, '--work_dir', tmp_path, once=tmp_path / 'epoch_1.pth')
    (tmp_path / 'epoch_2.pth').unlink(missing_ok=True)
    command('train.py', toy_config, '--work_dir', tmp_path, '--resume-from')
    assert logged_losses(tmp_path) == logged_losses(trained[0])
    old, new = (torch.load(folder / 'epoch_2.pth')['state_dict'] for folder in (trained[0], tmp_path))
    assert all(torch.equal(old[name], new[name]) for name in old)


def test_sigterm_saves_and_the_rest_follows(toy_config, trained, command, killed, logged_losses, tmp_path):
    status = killed('train.py', toy_config, '--work_dir', tmp_path, once=tmp_path / 'epoch_1.pth',
                    number=signal.SIGTERM)
    assert status == EXIT_PREEMPTED and len(list(tmp_path.glob('iter_*.pth'))) == 1
    command('train.py', toy_config, '--work_dir', tmp_path, '--resume')
    assert logged_losses(tmp_path) == logged_losses(trained[0])
    old, new = (torch.load(folder / 'epoch_2.pth')['state_dict'] for folder in (trained[0], tmp_path))
    assert all(torch.equal(old[name], new[name]) for name in old)


def test_two_processes_train_and_hold_one_memory(toy_config, command, logged_losses, tmp_path):
    command('train.py', toy_config, '--work_dir', tmp_path, '--launcher', 'pytorch', '--cfg-options',
            'train_dataloader.batch_size=2', 'train_cfg.max_epochs=1', launcher=TORCHRUN)
    assert sorted(logged_losses(tmp_path)) == [1, 2]


@pytest.mark.parametrize(('arguments', 'message', 'seconds'), [
    (['train.py', 'configs/nowhere.py'], 'no such file: configs/nowhere.py', 10),
    (['train.py', 'CONFIG', '--gpus', '3'], '--gpus 3: this machine has 0', 30),
    (['train.py', 'CONFIG', '--cfg-options', 'train_dataloader.dataset.data_root=/nowhere'], '/nowhere', 60),
], ids=['config', 'gpus', 'data'])
def test_faults_are_one_line_and_status_2(arguments, message, seconds, toy_config, command, tmp_path):
    arguments = [toy_config if argument == 'CONFIG' else argument for argument in arguments]
    start = time.monotonic()
    done = command(*arguments, '--work_dir', tmp_path, check=False)
    assert done.returncode == 2, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1 and message in done.stderr
    assert time.monotonic() - start < seconds
