"""Every tool answers a flag that it does not have with one line, before it does anything."""
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


@pytest.mark.parametrize('tool', sorted(TOOLS.glob('**/*.py')), ids=lambda tool: tool.stem)
def test_unknown_flag_is_one_line(tool, tmp_path):
    run = subprocess.run([sys.executable, tool, '--hepl'], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith('error: ') and 'Traceback' not in run.stderr
    assert not list(tmp_path.iterdir())
