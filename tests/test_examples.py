"""The examples of the documents can be pasted: Python code runs, and commands name files that exist or are made."""
import contextlib
import io
import re
from importlib.util import find_spec
from pathlib import Path

import av
import pytest

from tests.test_documents import DOCUMENTS

ROOT = Path(__file__).resolve().parents[1]
# words in capitals that stand for something that a reader would have to fill in
PLACEHOLDER = re.compile(r'(?<![\w{$.\'"=-])(VIDEO|CONFIG|CHECKPOINT|WEIGHTS|MODEL|RESULT|ANNOTATIONS|OUT|DIR|IMAGES|'
                         r'OTHER|FILE|NAME)\b')
TOY_MODEL = 'memcnp_toy_shapes.pth'


def blocks(text: str, *kinds: str) -> list[str]:
    return [code for kind, code in re.findall(r'^```(\w*)\n(.*?)^```', text, re.M | re.S) if kind in kinds]


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_have_no_placeholders(document):
    commands = [line for code in blocks(document.read_text(), '', 'bash', 'console') for line in code.splitlines()
                if re.match(r'\s*(python|memcnp-|curl|ffmpeg|\./)', line)]
    assert [line for line in commands if PLACEHOLDER.search(line.split(' # ')[0])] == []
    assert not [line for line in commands if 'video_demo.py 0' in line]  # there may be no camera


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_uses_of_the_toy_model_say_what_it_knows(document):
    lines = document.read_text().splitlines()
    uses = [number for number, line in enumerate(lines) if TOY_MODEL in line]
    near = [' '.join(lines[max(number - 12, 0):number + 13]).lower() for number in uses]
    known = re.compile(r'\bsix (toy )?(shapes|classes)')
    assert [lines[number] for number, text in zip(uses, near) if not known.search(text)] == []


@pytest.fixture
def short_clip(tmp_path, monkeypatch):
    """A folder with the first three frames of the sample clip in its place."""
    (tmp_path / 'data').mkdir()
    with av.open(str(ROOT / 'data/shapes.mp4')) as source, av.open(str(tmp_path / 'data/shapes.mp4'), 'w') as target:
        stream = target.add_stream('libx264', rate=10)
        stream.width, stream.height = 480, 270
        for _, frame in zip(range(3), source.decode(video=0)):
            frame.pts = None
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize('name', ['video_demo', 'serving'])
def test_python_code_about_videos_runs(name, short_clip):
    without = not find_spec('supervision')  # an optional package
    code = '\n'.join(code for code in blocks((ROOT / f'docs/{name}.md').read_text(), 'python')
                     if not (without and 'supervision' in code))
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(compile(code, f'{name}.md', 'exec'), {})
    assert len(output.getvalue().splitlines()) >= 3
