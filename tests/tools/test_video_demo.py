"""tools/video_demo.py: the command line, from a folder of frames to files; Ctrl-C; faults."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmdet.apis import VideoInferencer, init_model, load_config
from mmdet.datasets.coco_categories import TARGETS
from mmdet.errors import UserError
from mmdet.models.detectors.videomt_weights import to_authors
from mmdet.trained_models import MODELS, TrainedModel
from mmdet.zoo import WEIGHTS
from tools.video_demo import main, parse

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def trained(toy_config, tmp_path_factory):
    """A checkpoint with random weights that find something."""
    torch.manual_seed(0)
    model = init_model(toy_config, device='cpu')
    torch.nn.init.constant_(model.bbox_head.fcos_cls.bias, -1.0)
    path = tmp_path_factory.mktemp('demo') / 'tiny.pth'
    meta = dict(dataset_meta=dict(classes=('disc', 'square', 'triangle'), cat_ids=(5, 6, 7)))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return path


def test_folder_to_files(toy_root, toy_config, trained, tmp_path, capsys):
    folder = sorted((toy_root / 'valid_images').iterdir())[0]
    status = main([str(folder), str(toy_config), str(trained), '--out', str(tmp_path), '--outputs', 'mp4', 'json',
                   'png', '--start', '1', '--stride', '2', '--thresh', '0.001', '--device', 'cpu', '--max-size', '96'])
    assert status == 0
    lines = [json.loads(line) for line in (tmp_path / f'{folder.name}.jsonl').read_text().splitlines()]
    assert [line['source_frame'] for line in lines] == [1, 3]
    assert {found['category_id'] for line in lines for found in line['objects']} <= {5, 6, 7}
    assert any(line['objects'] for line in lines)
    assert len(list((tmp_path / folder.name).glob('*.png'))) == 2
    assert cv2.VideoCapture(str(tmp_path / f'{folder.name}.mp4')).get(cv2.CAP_PROP_FRAME_COUNT) == 2
    assert f'{folder.name}, 2 frames' in capsys.readouterr().out


def test_nothing_found_is_said(toy_root, toy_config, trained, tmp_path, capsys):
    folder = sorted((toy_root / 'valid_images').iterdir())[0]
    main([str(folder), str(toy_config), str(trained), '--out', str(tmp_path), '--outputs', 'json', '--thresh', '1'])
    assert 'try a lower one' in capsys.readouterr().out


def test_full_float32_and_options_without_effect(toy_root, toy_config, trained, tmp_path, capsys, exact_float32):
    torch.backends.cudnn.allow_tf32 = True
    folder = sorted((toy_root / 'valid_images').iterdir())[0]
    main([str(folder), str(toy_config), str(trained), '--out', str(tmp_path), '--outputs', 'json', '--end', '1',
          '--full-float32', '--cfg-options', 'train_cfg.max_epochs=3', 'test_pipeline.1.scale=(96,64)'])
    assert not torch.backends.cudnn.allow_tf32
    assert ('--cfg-options train_cfg.max_epochs: without effect, video_demo.py does not read train_cfg\n'
            in capsys.readouterr().out)


def test_flags_in_both_spellings():
    args = parse(['0', 'setup.py', 'setup.py', '--out', 'x', '--max_size', '320', '--classes', 'a', 'b', '--amp',
                  '--end', '9', '--batch', '4', '--on-bad-frame', 'skip'])
    assert (args.videos, args.config, args.checkpoint) == (['0'], 'setup.py', 'setup.py')
    assert (args.max_size, args.classes, args.on_bad_frame) == (320, ['a', 'b'], 'skip')
    assert (args.amp, args.end, args.batch) == (True, 9, 4)


@pytest.mark.parametrize('words', [
    'a.mp4 b setup.py README.md --out x --amp', '--out x a.mp4 b setup.py README.md',
    'a.mp4 b --out x setup.py --amp README.md', 'a.mp4 --out x b setup.py README.md'])
def test_videos_may_stand_anywhere_before_the_config(words):
    args = parse(words.split())
    assert (args.videos, args.config, args.checkpoint) == (['a.mp4', 'b'], 'setup.py', 'README.md')


@pytest.mark.parametrize(('words', 'said'), [
    (['a.mp4', 'b.pth'], 'CONFIG is missing before b.pth, a file that ends in .py'),
    (['a.mp4', 'b.onnx'], 'CONFIG is missing before b.onnx, a file that ends in .py'),
    (['a.mp4', 'memcnp'], 'CONFIG is missing before memcnp, a file that ends in .py'),
    (['setup.py', 'README.md'], 'VIDEO is missing before setup.py'),
    (['a.mp4', 'setup.py'], 'one CHECKPOINT is expected after setup.py ('),
    (['a.mp4', 'setup.py', 'README.md', 'b.mp4'], 'one CHECKPOINT is expected after setup.py, not README.md b.mp4'),
    (['a.mp4', 'nowhere.py', 'README.md'], 'no such file: nowhere.py'),
    (['a.mp4', 'setup.py', 'nowhere.pth'], 'no such file: nowhere.pth')])
def test_words_that_are_missing(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        parse([*words, '--out', 'x'])
    assert ended.value.code == 2 and capsys.readouterr().err.startswith(f'error: {said}')


def run(videos, config, checkpoint, out, *flags):
    return main([*map(str, videos), str(config), str(checkpoint), '--out', str(out), '--device', 'cpu', '--thresh',
                 '0.001', '--max-size', '96', *flags])


def test_several_videos_of_equal_names_with_one_model(toy_root, toy_config, trained, tmp_path, capsys, monkeypatch):
    made = []
    build = VideoInferencer.__init__
    monkeypatch.setattr(VideoInferencer, '__init__', lambda *args, **kwargs: made.append(1) or build(*args, **kwargs))
    frames = sorted(sorted((toy_root / 'valid_images').iterdir())[0].iterdir())
    for folder in ('a/cat', 'b/cat', 'b/dog'):
        (tmp_path / folder).mkdir(parents=True)
        for path in frames[:2 if folder == 'a/cat' else 3]:
            shutil.copy(path, tmp_path / folder)
    # as a shell gives a glob of frames
    single = [str(path) for path in sorted((tmp_path / 'b/dog').iterdir())]
    out = tmp_path / 'out'
    assert run([tmp_path / 'a', tmp_path / 'b/cat', *single], toy_config, trained, out, '--outputs', 'json') == 0
    assert {path.name: path.read_text().count('\n') for path in out.glob('*.jsonl')} == {
        'a_cat.jsonl': 2, 'b_cat.jsonl': 3, 'dog.jsonl': 3}
    assert len(made) == 1
    assert re.findall(': (.*), . frames', capsys.readouterr().out) == ['a_cat', 'b_cat', 'dog']


def test_a_video_that_fails_leaves_the_others(toy_root, toy_config, trained, tmp_path, capsys):
    frames = sorted(sorted((toy_root / 'valid_images').iterdir())[0].iterdir())
    for name in ('a', 'b', 'c'):
        (tmp_path / 'in' / name).mkdir(parents=True)
        for path in frames[:2]:
            shutil.copy(path, tmp_path / 'in' / name)
    (tmp_path / 'in' / 'b' / frames[1].name).write_text('no image')
    assert run([tmp_path / 'in'], toy_config, trained, tmp_path / 'out', '--outputs', 'json') == 2
    output = capsys.readouterr()
    assert output.err.count('error: ') == 1 and 'is damaged or cut off' in output.err
    assert {path.name for path in (tmp_path / 'out').iterdir()} >= {'a.json', 'c.json'}
    assert run([tmp_path / 'in'], toy_config, trained, tmp_path / 'skip', '--outputs', 'json', '--on-bad-frame',
               'skip') == 0
    assert (tmp_path / 'skip' / 'b.jsonl').read_text().count('\n') == 1


def test_what_would_be_overwritten_or_mixed_is_refused_before_the_model_is_loaded(toy_config, tmp_path, monkeypatch):
    monkeypatch.setattr(VideoInferencer, '__init__', None)
    frames = tmp_path / 'in' / 'cat'
    frames.mkdir(parents=True)
    cv2.imwrite(str(frames / '0.png'), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / 'out' / 'cat').mkdir(parents=True)
    (tmp_path / 'out' / 'cat' / '00007.png').touch()
    with pytest.raises(UserError, match='out/cat holds 1 PNG files already, perhaps of an earlier run'):
        run([frames], toy_config, toy_config, tmp_path / 'out', '--outputs', 'png')
    with pytest.raises(UserError, match='in/cat itself, a video that is read, would be overwritten'):
        run([frames], toy_config, toy_config, tmp_path / 'in', '--outputs', 'png')
    with pytest.raises(UserError, match='no such video'):
        run([frames, tmp_path / 'nowhere.mp4'], toy_config, toy_config, tmp_path / 'out', '--outputs', 'mp4')


def test_nothing_is_left_where_no_frame_was_read(toy_root, toy_config, trained, tmp_path):
    folder = sorted((toy_root / 'valid_images').iterdir())[0]
    with pytest.raises(UserError, match='no frame to read'):
        run([folder], toy_config, trained, tmp_path / 'out', '--outputs', 'mp4', 'gif', 'png', 'json', '--start', '50')
    assert not (tmp_path / 'out').exists()


@pytest.mark.slow
@pytest.mark.xdist_group('command lines')
def test_interrupt_leaves_readable_files(toy_root, toy_config, trained, tmp_path):
    film = tmp_path / 'long.avi'
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*'MJPG'), 25, (160, 96))
    image = cv2.imread(str(next((toy_root / 'valid_images').glob('*/*.jpg'))))
    for _ in range(5000):
        writer.write(image)
    writer.release()
    out = tmp_path / 'out'
    process = subprocess.Popen(
        [sys.executable, 'tools/video_demo.py', str(film), str(toy_config), str(trained), '--out', str(out), '--thresh',
         '0.001', '--device', 'cpu'], env=dict(os.environ, OMP_NUM_THREADS='1'), stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True)
    lines = out / 'long.jsonl'
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (lines.exists() and lines.read_text().count('\n') > 5):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and 'stopped before the end' in output
    count = len([json.loads(line) for line in lines.read_text().splitlines()])
    assert 5 < count < 5000
    assert cv2.VideoCapture(str(out / 'long.mp4')).get(cv2.CAP_PROP_FRAME_COUNT) == count
    assert {len(entry['segmentations']) for entry in json.loads((out / 'long.json').read_text())} == {count}


@pytest.mark.slow
def test_a_fault_is_one_line(command, toy_config, trained, tmp_path):
    (tmp_path / 'text.mp4').write_text('no video')
    done = command('tools/video_demo.py', tmp_path / 'text.mp4', toy_config, trained, '--out', tmp_path, check=False)
    assert done.returncode == 2 and done.stderr == (
        f'error: {tmp_path}/text.mp4: cannot be opened; is it a video? ffmpeg -i FILE says what it holds\n')


@pytest.mark.parametrize(('flag', 'value'), [
    ('--thresh', '2'), ('--fps', '0'), ('--batch', '0'), ('--stride', '0'), ('--start', '-1'), ('--end', '0'),
    ('--trails', '-1'), ('--max_size', '3')])
def test_wrong_numbers_show_before_anything_is_loaded(flag, value, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmdet.video.source', None)  # cannot be imported
    with pytest.raises(UserError, match=f'^{flag.replace("_", "-")} {value}'):
        main(['nowhere.mp4', 'setup.py', 'setup.py', '--out', str(tmp_path), flag, value])


def test_a_trained_model_by_name(toy_root, tmp_path, monkeypatch):
    """Weights in the authors' names, classes of the config: tracks with YouTube-VIS categories on any video."""
    config = tmp_path / 'tiny_videomt.py'
    config.write_text(f"""
_base_ = '{ROOT}/configs/videomt_small_ytvis2021.py'
model = dict(backbone=dict(embed_dims=64, depth=5, num_heads=4, image_size=128), head=dict(num_queries=20))
""")
    torch.manual_seed(0)
    model = init_model(str(config), device='cpu')
    torch.nn.init.normal_(model.head.class_predictor.weight, std=1.0)
    torch.save({'model': to_authors(model.state_dict(), 3)}, tmp_path / 'authors.pth')
    monkeypatch.setitem(MODELS, 'videomt-l-ytvis21', TrainedModel(config, str(tmp_path / 'authors.pth')))
    folder = sorted((toy_root / 'valid_images').iterdir())[0]
    status = main([str(folder), '--model', 'videomt-l-ytvis21', '--out', str(tmp_path), '--outputs', 'json', 'mp4',
                   '--thresh', '0.01', '--device', 'cpu', '--max-size', '96'])
    assert status == 0
    lines = [json.loads(line) for line in (tmp_path / f'{folder.name}.jsonl').read_text().splitlines()]
    objects = [item for line in lines for item in line['objects']]
    names = TARGETS['yvis2021'].names
    assert objects and all(item['category'] == names[item['category_id'] - 1] for item in objects)
    assert all(0 <= item['id'] < 20 for item in objects)
    assert json.loads((tmp_path / f'{folder.name}.json').read_text())


def test_models_have_configs_and_weights():
    for name, model in MODELS.items():
        assert model.config.is_file() and model.weights in WEIGHTS, name
        args = parse(['0', '--model', name, '--out', 'x'])
        assert (args.videos, args.config, args.checkpoint) == (['0'], model.config, model.weights)


@pytest.mark.parametrize('words, said', [
    (['0', 'setup.py', 'a.pth', '--model', 'videomt-l-ovis'], 'leave setup.py and the checkpoint out'),
    (['0', '--model', 'videomt-l'], "invalid choice: 'videomt-l'")])
def test_wrong_models(words, said, capsys):
    with pytest.raises(SystemExit):
        parse([*words, '--out', 'x'])
    assert said in capsys.readouterr().err


def test_classes_of_the_configs_are_those_of_coco_s_pseudo_videos():
    for data, target in (('ytvis2019', 'yvis2019'), ('ytvis2021', 'yvis2021'), ('ytvis2022', 'yvis2021'),
                         ('ovis', 'ovis')):
        cfg = load_config(ROOT / f'configs/videomt_small_{data}.py')
        assert cfg.test_dataloader.dataset.metainfo.classes == TARGETS[target].names
        assert cfg.test_dataloader.dataset.metainfo.cat_ids == tuple(range(1, len(TARGETS[target].names) + 1))
        assert cfg.train_dataloader.dataset.datasets[1].target == target
