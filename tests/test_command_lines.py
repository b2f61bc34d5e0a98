"""The command lines end to end, in processes of their own, on a tiny toy set: train, resume, test, show, score."""
import json
import pickle
import signal
import time
from pathlib import Path

import pytest
import torch

from mmdet.errors import EXIT_PREEMPTED

pytestmark = pytest.mark.slow
TORCHRUN = ('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2')


@pytest.fixture(scope='module')
def trained(toy_config, command, tmp_path_factory):
    """Working directory of a training of two epochs that validated after each."""
    folder = tmp_path_factory.mktemp('trained')
    done = command('train.py', toy_config, '--work_dir', folder, '--validate')
    return folder, done


@pytest.fixture(scope='module')
def tested(toy_config, trained, command, tmp_path_factory):
    """Result file of a test by one process."""
    out = tmp_path_factory.mktemp('tested') / 'out.pkl'
    done = command('test_video.py', toy_config, trained[0] / 'epoch_2.pth', '--out', out, '--eval', 'segm',
                   '--work-dir', out.parent)
    return out, done


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


def test_result_files(tested, toy_root):
    out, done = tested
    frames = pickle.loads(out.read_bytes())
    assert len(frames) == 8
    boxes, masks = frames[0]
    assert boxes.keys() == masks.keys() and all(box['bbox'].shape == (10,) for box in boxes.values())
    entries = json.loads((out.parent / 'out.pkl.json').read_text())
    annotations = json.loads((toy_root / 'annotations/instances_valid.json').read_text())
    assert {entry['video_id'] for entry in entries} == {video['id'] for video in annotations['videos']}
    assert {entry['category_id'] for entry in entries} <= {5, 6, 7}
    assert all(len(entry['segmentations']) == 4 for entry in entries)
    assert 'AP50' in done.stdout and 'frames/s' in done.stderr


def test_two_processes_with_more_workers_write_the_same_file(tested, toy_config, trained, command, tmp_path):
    command('test_video.py', toy_config, trained[0] / 'epoch_2.pth', '--out', tmp_path / 'two.pkl',
            '--launcher', 'pytorch', '--work_dir', tmp_path, '--cfg-options', 'test_dataloader.num_workers=2',
            launcher=TORCHRUN)
    for ending in ('', '.json'):
        assert (tmp_path / f'two.pkl{ending}').read_bytes() == (tested[0].parent / f'out.pkl{ending}').read_bytes()


def test_two_processes_train_and_hold_one_memory(toy_config, command, logged_losses, tmp_path):
    command('train.py', toy_config, '--work_dir', tmp_path, '--launcher', 'pytorch', '--cfg-options',
            'train_dataloader.batch_size=2', 'train_cfg.max_epochs=1', launcher=TORCHRUN)
    assert sorted(logged_losses(tmp_path)) == [1, 2]


def test_pictures_and_scores_of_one_run(tested, toy_config, trained, command, tmp_path):
    done = command('test_video.py', toy_config, trained[0] / 'epoch_2.pth', '--eval', 'segm', '--show', 'True',
                   '--save_vis_path', tmp_path / 'vis', '--thresh', '0.01', '--out', tmp_path / 'shown.pkl',
                   '--work_dir', tmp_path)
    assert len(list((tmp_path / 'vis').glob('*.gif'))) == 2 and len(list((tmp_path / 'vis').glob('*/*.png'))) == 8
    assert (tmp_path / 'shown.pkl').read_bytes() == tested[0].read_bytes()
    assert table(done.stdout) == table(tested[1].stdout)


def table(text):
    """The lines of the AP table."""
    lines = text.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith('segm, video AP'))
    return lines[start:start + 13]


def test_stored_results_score_alike(tested, toy_config, command, tmp_path):
    done = command('test_video.py', toy_config, '--load_result', tested[0], '--eval', 'segm')
    assert table(done.stdout) == table(tested[1].stdout)
    assert 'mmengine' not in done.stdout + tested[1].stdout and tested[1].stdout.count('AP50') == 1


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


def test_a_checkpoint_of_other_classes_is_one_line(toy_config, trained, command, tmp_path):
    done = command('test_video.py', toy_config, trained[0] / 'epoch_2.pth', '--eval', 'segm', '--work_dir', tmp_path,
                   '--cfg-options', 'model.bbox_head.num_classes=4', 'test_dataloader.dataset.num_classes=3',
                   check=False)
    assert done.returncode == 2
    assert done.stderr.count('\n') == 1 and 'the file has 3, the config 4' in done.stderr


def test_the_archives_own_layout_is_tested_and_scored(tested, toy_config, toy_root, trained, command, tmp_path):
    (tmp_path / 'data/valid').mkdir(parents=True)
    (tmp_path / 'data/valid/JPEGImages').symlink_to(toy_root / 'valid_images')
    (tmp_path / 'data/valid/instances.json').symlink_to(toy_root / 'annotations/instances_valid.json')
    done = command('test_video.py', toy_config, trained[0] / 'epoch_2.pth', '--eval', 'segm', '--work_dir', tmp_path,
                   '--report', tmp_path / 'report', '--cfg-options',
                   f'test_dataloader.dataset.data_root={tmp_path}/data',
                   f'test_evaluator.ann_file={tmp_path}/data/annotations/instances_valid.json')
    assert table(done.stdout) == table(tested[1].stdout)
    assert (tmp_path / 'report/result.pkl.json').read_bytes() == (tested[0].parent / 'out.pkl.json').read_bytes()
