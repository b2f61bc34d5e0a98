"""The page to try models on, without Gradio: its models, the annotation of a video, and its command."""
import builtins
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mmdet.apis import VideoInferencer
from mmdet.apis.web_demo import GRADIO, Models, annotate
from mmdet.errors import UserError
from tests.helpers.web_page import FRAMES, outcome
from tools.web_demo import build_parser, main


def test_a_video_becomes_files_timeline_and_steps(inferencer, film, tmp_path, monkeypatch):
    monkeypatch.setattr('mmdet.apis.web_demo.PREVIEW_SECONDS', 0)
    *steps, last = annotate(inferencer, str(film), tmp_path, thresh=0.01, max_frames=5)
    assert [(step.done, step.total) for step in steps] == [(done, 5) for done in range(1, 6)]
    assert all(step.picture.shape == (72, 128, 3) for step in steps)
    assert any((step.picture != steps[0].picture).any() for step in steps[1:])
    assert last.mp4.read_bytes()[4:8] == b'ftyp'
    tracks = json.loads(last.json.read_text())
    assert tracks and len(tracks[0]['segmentations']) == 5
    assert last.timeline.count('class="row"') == min(len(tracks), 100)
    assert last.summary == f'5 frames, {len(tracks)} tracks above 0.01; processing ends after 5 frames.'
    whole = outcome(inferencer, str(film), tmp_path / 'whole', thresh=1.0, max_frames=FRAMES)
    assert whole.summary == f'{FRAMES} frames, 0 tracks above 1.'


def test_two_requests_at_the_same_time_have_the_result_of_one_alone(inferencer, film, tmp_path):
    def text(name):
        return outcome(inferencer, str(film), tmp_path / name, thresh=0.01).json.read_text()

    alone = text('alone')
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(text, ('a', 'b'))) == [alone, alone]


def test_threshold_and_classes(inferencer, film, tmp_path):
    none = outcome(inferencer, str(film), tmp_path / 'none', thresh=1.0)
    assert json.loads(none.json.read_text()) == [] and 'No object was found' in none.timeline
    disc = outcome(inferencer, str(film), tmp_path / 'disc', thresh=0.01, classes=('disc',))
    assert {track['category_id'] for track in json.loads(disc.json.read_text())} <= {1, 5}
    with pytest.raises(UserError, match='discs: the model knows no such class; there are disc'):
        outcome(inferencer, str(film), tmp_path / 'wrong', classes=('discs',))


def test_a_model_is_loaded_once_at_its_first_use():
    loads = []

    def build(name):
        time.sleep(0.05)
        loads.append(name)
        return VideoInferencer.__new__(VideoInferencer)

    models = Models({'a': (('a.py',), ()), 'b': (('b.py',), ('cat', 'dog'))}, build)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(models.load, ['a'] * 4))
    assert loads == ['a.py'] and all(model is found[0] for model in found)
    assert models.class_names('b') == ['cat', 'dog'] and loads == ['a.py']
    with pytest.raises(UserError, match="'c' is not a model of this page; there are a, b"):
        models.load('c')


@pytest.mark.parametrize(('words', 'message'), [
    (['configs/memcnp_toy_shapes.py'], 'CHECKPOINT is missing after'), (['--models'], 'the page has no model'),
    (['--thresh', '2'], '--thresh 2'), (['--models', 'nothing'], 'invalid choice')])
def test_wrong_command_lines(words, message, capsys):
    with pytest.raises((SystemExit, UserError)) as raised:
        main(words)
    assert message in capsys.readouterr().err + str(raised.value)


@pytest.mark.parametrize(('absent', 'words'), [
    ('gradio', r'the page needs the package gradio, .*: pip install gradio==[\d.]+$'),
    ('pandas', r'gradio, and that needs pandas, which is not installed; install both: pip install gradio==[\d.]+$')])
def test_without_gradio_one_line_says_what_to_install(monkeypatch, absent, words):
    original = builtins.__import__

    def fail(name, *args, **options):
        if name == 'gradio':
            raise ModuleNotFoundError(f'No module named {absent!r}', name=absent)
        return original(name, *args, **options)

    monkeypatch.setattr(builtins, '__import__', fail)
    with pytest.raises(UserError, match=words):
        main([])


def test_the_extra_installs_the_gradio_that_is_named():
    assert f'web = ["{GRADIO}"]' in (Path(__file__).resolve().parents[3] / 'pyproject.toml').read_text()


def test_default_of_the_command_is_local():
    args = build_parser().parse_args([])
    assert args.host == '127.0.0.1' and args.models is None and args.jobs == 2
