"""What SECURITY.md promises: no file of data, weights or results runs code. Hostile files of each kind are tested with
their readers (test_checkpoint.py, test_result_files.py, test_resume.py); here, that there are no other readers.
"""
import ast
from pathlib import Path

import pytest

from mmdet.apis import load_config
from mmdet.errors import UserError

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for pattern in ('mmdet/**/*.py', 'tools/**/*.py', '*.py', 'configs/**/*.py')
                 for path in ROOT.glob(pattern))
# execute their arguments, or read files that can
FORBIDDEN = {'eval', 'exec', 'compile', '__import__', 'os.system', 'os.popen', 'pickle.load', 'pickle.loads',
             'pickle.Unpickler', 'yaml.load', 'yaml.unsafe_load', 'yaml.full_load', 'joblib.load', 'shelve.open',
             'marshal.load', 'marshal.loads', 'mmengine.load', 'runpy.run_path', 'Config.fromstring',
             'Runner.load_checkpoint'}


def name_of(node: ast.AST) -> str:
    """``a.b.c`` of nested attributes; ``?`` for other expressions."""
    if isinstance(node, ast.Attribute):
        return f'{name_of(node.value)}.{node.attr}'
    return node.id if isinstance(node, ast.Name) else '?'


def risky_calls(source: str) -> list[str]:
    found = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name, given = name_of(call.func), {keyword.arg: keyword.value for keyword in call.keywords}
        on = {arg for arg, value in given.items() if isinstance(value, ast.Constant) and value.value is True}
        off = {arg for arg, value in given.items() if isinstance(value, ast.Constant) and value.value is False}
        if (name in FORBIDDEN or (name == 'torch.load' and 'weights_only' not in on)
                or (name.endswith('np.load') and 'allow_pickle' in on) or 'shell' in on
                or (name.startswith('torch.hub') and 'weights_only' in off)):
            found.append(f'line {call.lineno}: {name}')
    return found


@pytest.mark.parametrize('source', [
    'eval(x)', 'torch.load(path)', 'torch.load(path, weights_only=False)', 'import os\nos.system(x)',
    'pickle.load(f)', 'yaml.load(f, Loader=L)', 'np.load(f, allow_pickle=True)', 'subprocess.run(x, shell=True)'])
def test_the_search_finds(source):
    assert len(risky_calls(source)) == 1


def test_the_search_lets_pass():
    assert not risky_calls('torch.load(p, weights_only=True); m.eval(); build().eval(); re.compile("x"); np.load(x)')


def test_no_source_reads_files_that_run_code():
    assert len(SOURCES) > 100
    found = {str(path.relative_to(ROOT)): calls for path in SOURCES if (calls := risky_calls(path.read_text()))}
    assert not found


def test_yaml_configs_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / 'config.yaml'
    path.write_text(f'model: !!python/object/apply:os.mkdir [{tmp_path / "owned"}]')
    with pytest.raises(UserError, match=r'config\.yaml: configs are Python files'):
        load_config(path)
    assert not (tmp_path / 'owned').exists()
