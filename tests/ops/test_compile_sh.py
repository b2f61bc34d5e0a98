"""compile.sh, run in a copy of the files it needs: works from any directory, repeatedly; errors are one line long."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
needs_cuda_pytorch = pytest.mark.skipif(torch.version.cuda is None, reason='needs a CUDA build of PyTorch')


@pytest.fixture(scope='module')
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('a folder')
    for name in ('compile.sh', 'setup.py', 'pyproject.toml', 'mmdet/__init__.py', 'mmdet/errors.py'):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / name, root / name)
    shutil.copytree(ROOT / 'mmdet/ops', root / 'mmdet/ops', ignore=shutil.ignore_patterns('*.so', '__pycache__'))
    return root


def compile_sh(root: Path, cwd: Path, **environment: object) -> subprocess.CompletedProcess:
    variables = {k: v for k, v in os.environ.items() if k not in ('FORCE_CUDA', 'CUDA_HOME', 'CUDA_PATH', 'CXX')}
    variables |= {'PYTHON': sys.executable} | {k: str(v) for k, v in environment.items()}
    return subprocess.run([root / 'compile.sh'], cwd=cwd, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.skipif(shutil.which('c++') is None, reason='needs a C++ compiler')
def test_builds_from_any_directory_and_again(copy, tmp_path):
    for cwd in (tmp_path, copy / 'mmdet'):
        done = compile_sh(copy, cwd, FORCE_CUDA=0)
        assert done.returncode == 0, done.stderr
        assert f'built for PyTorch {torch.__version__.split("+")[0]}, CPU only' in done.stdout
        assert 'agrees with plain PyTorch on cpu' in done.stdout
    assert len(list(copy.glob('mmdet/ops/correlation/_C*.so'))) == 1


def script(path: Path, line: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n{line}\n')
    path.chmod(0o755)
    return path


def old_toolkit(folder: Path) -> dict:
    script(folder / 'cuda/bin/nvcc', 'echo "Cuda compilation tools, release 9.2, V9.2.88"')
    (folder / 'cuda/include').mkdir()
    (folder / 'cuda/include/cuda_runtime.h').touch()
    return {'FORCE_CUDA': 1, 'CUDA_HOME': folder / 'cuda'}


@pytest.mark.parametrize(('environment', 'message'), [
    (lambda folder: {'PYTHON': folder / 'python'}, 'set PYTHON to the one that runs'),
    (lambda folder: {'PYTHON': script(folder / 'python', f'exec {sys._base_executable} -S "$@"')}, 'has no torch'),
    (lambda folder: {'FORCE_CUDA': 'yes'}, 'FORCE_CUDA=yes is neither 0 nor 1'),
    (lambda folder: {'FORCE_CUDA': 0, 'CXX': 'no-compiler'}, 'no C++ compiler no-compiler; install g++'),
    (lambda folder: {'FORCE_CUDA': 0, 'CXX': script(folder / 'c++', 'echo "error: too old" >&2; exit 1')},
     'does not compile C++17 with OpenMP (error: too old); install g++'),
    pytest.param(lambda folder: {'FORCE_CUDA': 1, 'CUDA_HOME': folder}, 'holds no bin/nvcc; point it to',
                 marks=needs_cuda_pytorch),
    pytest.param(old_toolkit, 'is CUDA 9.2, PyTorch', marks=needs_cuda_pytorch),
], ids=['no-python', 'no-torch', 'wrong-switch', 'no-compiler', 'old-compiler', 'wrong-cuda-home', 'old-cuda'])
def test_errors_are_reported_in_one_line(copy, tmp_path, environment, message):
    done = compile_sh(copy, tmp_path, **environment(tmp_path))
    assert done.returncode == 1
    assert message in done.stderr and done.stderr.startswith('compile.sh: ') and done.stderr.count('\n') == 1
