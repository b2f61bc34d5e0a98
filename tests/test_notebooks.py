"""The notebooks run from the first cell to the last; their code cells are executed here in order, as Jupyter does."""
import contextlib
import io
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(ROOT.glob('notebooks/*.ipynb'))


def cells(path: Path, kind: str) -> list[str]:
    return [''.join(cell['source']) for cell in json.loads(path.read_text())['cells'] if cell['cell_type'] == kind]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Executes a notebook in a folder with the project's files, and returns its variables and what it printed."""
    for name in ('tools', 'configs', 'checkpoints', 'mmdet', 'train.py', 'test_video.py'):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / 'notebooks').mkdir()
    (tmp_path / 'data').mkdir()
    monkeypatch.setattr(sys, 'path', [*sys.path])

    def execute(name: str, *changes: tuple[str, str]) -> tuple[dict, str]:
        code = '\n'.join(cells(ROOT / f'notebooks/{name}.ipynb', 'code'))
        for old, new in changes:
            assert old in code
            code = code.replace(old, new)
        monkeypatch.chdir(tmp_path / 'notebooks')
        variables: dict = {}
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(compile(code, name, 'exec'), variables)
        assert Path.cwd() == tmp_path
        return variables, output.getvalue()

    return execute


def test_a_video_in_five_lines(run, tmp_path):
    code = cells(ROOT / 'notebooks/video_in_five_lines.ipynb', 'code')[1]
    assert len([line for line in code.splitlines() if line]) == 5
    variables, output = run('video_in_five_lines', ("out='demo_output'", "out='demo_output', end=3, outputs=['json']"))
    assert re.findall(r'^(\d+) \[', output, re.M) == ['0', '1', '2'] and re.search(r'\[\d', output)
    assert (tmp_path / 'demo_output/shapes.json').is_file() and variables['picture'].shape == (270, 480, 3)


@pytest.mark.slow
def test_own_data_from_frames_to_ap(run, tmp_path):
    variables, output = run('own_data', ('videos, frames = 12, 8', 'videos, frames = 3, 2'))
    assert 'no faults in 3 videos' in output
    assert 0 <= variables['scores']['segm_AP'] <= 1 and re.search(r'^AP \d+\.\d, AP50', output, re.M)
    assert (tmp_path / 'work_dirs/mine/report/index.html').is_file()


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_clean(path):
    notebook = json.loads(path.read_text())
    assert (notebook['nbformat'], notebook['metadata']['kernelspec']['name']) == (4, 'python3')
    assert all(cell['outputs'] == [] and cell['execution_count'] is None
               for cell in notebook['cells'] if cell['cell_type'] == 'code')
    links = re.findall(r'\]\((?!https?:)([^)#]+)', '\n'.join(cells(path, 'markdown')))
    assert all((path.parent / link).exists() for link in links)
