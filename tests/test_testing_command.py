"""The testing command in processes of its own, on a tiny toy set: result files, pictures, scores, several processes."""
import json
import pickle

import pytest
import torch

from mmdet.apis import init_model
from tests.helpers.processes import TORCHRUN

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def checkpoint(toy_config, tmp_path_factory):
    """Random weights, as a training saves them."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('checkpoint') / 'random.pth'
    meta = dict(dataset_meta=dict(classes=('disc', 'square', 'triangle')))
    torch.save(dict(state_dict=init_model(toy_config, device='cpu').state_dict(), meta=meta), path)
    return path


@pytest.fixture(scope='module')
def tested(toy_config, checkpoint, command, tmp_path_factory):
    """Result file of a test by one process."""
    out = tmp_path_factory.mktemp('tested') / 'out.pkl'
    done = command('test_video.py', toy_config, checkpoint, '--out', out, '--eval', 'segm', '--work-dir', out.parent)
    return out, done


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


def test_two_processes_with_more_workers_write_the_same_file(tested, toy_config, checkpoint, command, tmp_path):
    command('test_video.py', toy_config, checkpoint, '--out', tmp_path / 'two.pkl',
            '--launcher', 'pytorch', '--work_dir', tmp_path, '--cfg-options', 'test_dataloader.num_workers=2',
            launcher=TORCHRUN)
    for ending in ('', '.json'):
        assert (tmp_path / f'two.pkl{ending}').read_bytes() == (tested[0].parent / f'out.pkl{ending}').read_bytes()


def test_pictures_and_scores_of_one_run(tested, toy_config, checkpoint, command, tmp_path):
    done = command('test_video.py', toy_config, checkpoint, '--eval', 'segm', '--show', 'True',
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


def test_a_checkpoint_of_other_classes_is_one_line(toy_config, checkpoint, command, tmp_path):
    done = command('test_video.py', toy_config, checkpoint, '--eval', 'segm', '--work_dir', tmp_path,
                   '--cfg-options', 'model.bbox_head.num_classes=4', 'test_dataloader.dataset.num_classes=3',
                   check=False)
    assert done.returncode == 2
    assert done.stderr.count('\n') == 1 and 'the file has 3, the config 4' in done.stderr


def test_the_archives_own_layout_is_tested_and_scored(tested, toy_config, toy_root, checkpoint, command, tmp_path):
    (tmp_path / 'data/valid').mkdir(parents=True)
    (tmp_path / 'data/valid/JPEGImages').symlink_to(toy_root / 'valid_images')
    (tmp_path / 'data/valid/instances.json').symlink_to(toy_root / 'annotations/instances_valid.json')
    done = command('test_video.py', toy_config, checkpoint, '--eval', 'segm', '--work_dir', tmp_path,
                   '--report', tmp_path / 'report', '--cfg-options',
                   f'test_dataloader.dataset.data_root={tmp_path}/data',
                   f'test_evaluator.ann_file={tmp_path}/data/annotations/instances_valid.json')
    assert table(done.stdout) == table(tested[1].stdout)
    assert (tmp_path / 'report/result.pkl.json').read_bytes() == (tested[0].parent / 'out.pkl.json').read_bytes()
