"""tools/video_demo.py: the command line, from a folder of frames to files; Ctrl-C; faults."""
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
import torch

from mmdet.apis import init_model
from mmdet.errors import UserError
from tools.video_demo import build_parser, main

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


def test_flags_in_both_spellings():
    args = build_parser().parse_args(['0', 'setup.py', 'setup.py', '--out', 'x', '--max_size', '320', '--classes', 'a',
                                      'b', '--amp', '--end', '9', '--batch', '4'])
    assert (args.video, args.max_size, args.classes) == ('0', 320, ['a', 'b'])
    assert (args.amp, args.end, args.batch) == (True, 9, 4)


def test_python_of_the_tutorial(toy_root, toy_config, trained, capsys):
    folder = sorted((toy_root / 'valid_images').iterdir())[0]
    blocks = re.findall(r'^```python\n(.*?)^```', (ROOT / 'docs/video_demo.md').read_text(), re.M | re.S)
    code = '\n'.join(blocks)
    for written, here in (('configs/memcnp_toy.py', toy_config), ('checkpoint.pth', trained), ('cat.mp4', folder)):
        assert written in code
        code = code.replace(written, str(here))
    names = {}
    exec(code, names)
    assert capsys.readouterr().out.startswith('0 tensor(') and names['picture'].shape == (96, 160, 3)


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
