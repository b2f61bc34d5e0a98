"""Every tool has help at once, and answers a flag that it does not have with one line, before it does anything."""
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / 'tools'
HELP = """
import runpy, sys
del sys.argv[0]
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
finally:
    slow = {'torch', 'mmengine', 'mmcv', 'cv2'} & set(sys.modules)
    assert not slow, slow
"""


@pytest.mark.parametrize('tool', [ROOT / 'train.py', ROOT / 'test_video.py', *sorted(TOOLS.glob('**/*.py'))],
                         ids=lambda tool: tool.stem)
def test_help_waits_for_no_import(tool, tmp_path):
    # test_video.py and train.py lie beside mmdet, which run_path does not find by itself
    run = subprocess.run([sys.executable, '-c', HELP, tool, '--help'], capture_output=True, text=True, cwd=tmp_path,
                         env={'PYTHONPATH': str(ROOT), 'COLUMNS': '200'}, timeout=120)
    assert run.returncode == 0, run.stderr
    assert f'usage: {tool.relative_to(ROOT)} ' in run.stdout


@pytest.mark.parametrize('tool', sorted(TOOLS.glob('**/*.py')), ids=lambda tool: tool.stem)
def test_unknown_flag_is_one_line(tool, tmp_path):
    run = subprocess.run([sys.executable, tool, '--hepl'], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith('error: ') and 'Traceback' not in run.stderr
    assert not list(tmp_path.iterdir())
