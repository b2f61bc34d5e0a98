"""The console commands of an installed package: each runs a script of the project as ``python SCRIPT`` would.

``pyproject.toml`` names them. ``memcnp-tool`` runs any other script of ``tools/`` by its name.
"""
from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from mmdet.apis.cli import run_command
from mmdet.errors import EXIT_USER_ERROR
from mmdet.shipped import PROJECT


def train() -> None:
    """``memcnp-train``: train a model (train.py)."""
    _run(PROJECT / 'train.py')


def test() -> None:
    """``memcnp-test``: test a model on a data set (test_video.py)."""
    _run(PROJECT / 'test_video.py')


def video() -> None:
    """``memcnp-video``: find and track the objects of any video (tools/video_demo.py)."""
    _run(PROJECT / 'tools/video_demo.py')


def evaluate() -> None:
    """``memcnp-eval``: score a result file (tools/vis_eval.py)."""
    _run(PROJECT / 'tools/vis_eval.py')


def tool() -> None:
    """``memcnp-tool NAME ...``: run a script of ``tools/``; without a name, list them."""
    tools = {path.stem: path for path in sorted((PROJECT / 'tools').rglob('*.py'))
             if 'run_command(main)' in path.read_text(encoding='utf-8')}
    name = sys.argv[1].removesuffix('.py') if len(sys.argv) > 1 else ''
    if name in tools:
        del sys.argv[0]
        _run(tools[name])
        return
    listed = ', '.join(tools)
    if name in ('', '-h', '--help'):
        print(f'usage: memcnp-tool NAME [arguments]\nNAME is one of {listed}; memcnp-tool NAME --help describes it')
        return
    print(f'error: memcnp-tool {name}: no such tool; there are {listed}', file=sys.stderr)
    sys.exit(EXIT_USER_ERROR)


def _run(script: Path) -> None:
    # in this process, so that sys.argv[0] stays the console command, which train.py starts again for each GPU
    spec = spec_from_file_location(script.stem, script)
    assert spec is not None and spec.loader is not None  # a file that ends in .py always has a loader
    module = module_from_spec(spec)
    sys.modules[script.stem] = module
    spec.loader.exec_module(module)
    run_command(module.main)
