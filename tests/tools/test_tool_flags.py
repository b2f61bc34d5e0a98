"""Every tool has help at once, and answers a flag that it does not have with one line, before it does anything."""
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import with_search_path
from tools import check_dataset, make_toy_vis
from tools.analysis_tools import benchmark, browse_dataset
from tools.model_converters import publish_model

ROOT = Path(__file__).resolve().parents[2]
TOOLS = sorted(path for path in (ROOT / 'tools').glob('**/*.py') if "__name__ == '__main__'" in path.read_text())
HELP = """
import runpy, sys
del sys.argv[0]
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
finally:
    slow = {'torch', 'mmengine', 'mmcv', 'cv2'} & set(sys.modules)
    assert not slow, slow
"""


@pytest.mark.parametrize('tool', [ROOT / 'train.py', ROOT / 'test_video.py', *TOOLS],
                         ids=lambda tool: tool.stem)
def test_help_waits_for_no_import(tool, tmp_path):
    # test_video.py and train.py lie beside mmdet, which run_path does not find by itself
    run = subprocess.run([sys.executable, '-c', HELP, tool, '--help'], capture_output=True, text=True, cwd=tmp_path,
                         env={'PYTHONPATH': with_search_path(ROOT), 'COLUMNS': '200'}, timeout=120)
    assert run.returncode == 0, run.stderr
    assert f'usage: {tool.relative_to(ROOT)} ' in run.stdout


@pytest.mark.parametrize('tool', TOOLS, ids=lambda tool: tool.stem)
def test_unknown_flag_is_one_line(tool, tmp_path):
    run = subprocess.run([sys.executable, tool, '--hepl'], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith('error: ') and 'Traceback' not in run.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('parse', 'words', 'flag'), [
    (check_dataset.build_parser().parse_args, ['setup.py'], 'decode'),
    (publish_model.build_parser().parse_args, ['setup.py', 'x.pth'], 'half'),
    (make_toy_vis.build_parser().parse_args, ['x'], 'easy'),
    (browse_dataset.build_parser().parse_args, ['setup.py', '--out', 'x'], 'in_order'),
    (benchmark.parse_args, ['setup.py', '--loading'], 'train')])
def test_booleans_take_values_as_those_of_the_main_scripts(parse, words, flag):
    for ending, value in (([], False), ([f'--{flag}'], True), ([f'--{flag}', 'False'], False),
                          ([f'--{flag}=True'], True)):
        assert getattr(parse([*words, *ending]), flag) is value
    assert getattr(parse([f'--{flag}', *words]), flag) is True


@pytest.mark.parametrize(('parse', 'words', 'said'), [
    (make_toy_vis.build_parser().parse_args, ['x', '--size', '320'], "'320' is not WIDTHxHEIGHT, the width first"),
    (benchmark.parse_args, ['setup.py', '--size', '480'], "'480' is not HEIGHTxWIDTH, the height first"),
    (benchmark.parse_args, ['setup.py', '--size', '480x270'], 'multiples of 32, and the height comes first')])
def test_sizes_say_what_comes_first(parse, words, said, capsys):
    with pytest.raises(SystemExit):
        parse(words)
    assert said in capsys.readouterr().err
