"""Build the package for `pip install .`, and the custom operators of mmdet/ops in place for `compile.sh`.

The metadata is in pyproject.toml. The library contains CUDA kernels if this machine has a GPU and a CUDA toolkit that
fits the installed PyTorch; FORCE_CUDA=1 builds them without a GPU, too, and FORCE_CUDA=0 never builds them. These
environment variables are respected: CUDA_HOME, CXX, TORCH_CUDA_ARCH_LIST, MAX_JOBS. Each error is reported in one line
with its remedy. Without a C++ compiler pip installs the Python code alone: the library only makes it faster.

The wheel also carries what lies beside the package in a clone (PROJECT_FILES), in mmdet/.mim; see mmdet/shipped.py.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CXX = os.environ.setdefault('CXX', 'c++' if shutil.which('c++') else 'g++')
COMPILES = 'build_ext' in sys.argv or shutil.which(CXX) is not None
try:
    if COMPILES:
        import torch
    from setuptools import setup
    from setuptools.command.build_py import build_py
except ImportError as error:
    sys.exit(f'mmdet/ops: {sys.executable} has no {error.name}; install it there: '
             f'{sys.executable} -m pip install torch==2.11.0 "setuptools<82" ninja')

ROOT = Path(__file__).resolve().parent
SOURCES = Path('mmdet/ops/correlation/csrc')
PROJECT_FILES = ('configs', 'tools', 'checkpoints', 'data/shapes.mp4', 'train.py', 'test_video.py')
# Turing, Ampere to Ada, Hopper; newer GPUs compile the PTX when they first load it.
DEFAULT_ARCHITECTURES = '7.5;8.0;9.0+PTX'


class BuildWithProjectFiles(build_py):
    """Copy PROJECT_FILES into mmdet/.mim of the wheel; an editable installation finds them in the clone."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, 'mmdet/.mim')
        shutil.rmtree(target, ignore_errors=True)  # of an earlier build
        for name in PROJECT_FILES:
            destination = target / name
            destination.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, destination, ignore=shutil.ignore_patterns('__pycache__', '.*'))
            else:
                shutil.copy2(ROOT / name, destination)


def run(*command: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)


def toolkit_of(nvcc: str) -> Path | None:
    """Return the toolkit that an nvcc reports as its own: the nvcc on the PATH may be a wrapper or a link."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, 'empty.cu')
        source.touch()
        found = re.search(r'^#\$ TOP=(.*)$', run(nvcc, '--dryrun', '-c', source).stderr, re.MULTILINE)
    return Path(found[1]).resolve() if found else None


def find_cuda() -> Path | None:
    """Find the CUDA toolkit: CUDA_HOME or CUDA_PATH, else that of the nvcc on the PATH, else the usual locations."""
    for name in ('CUDA_HOME', 'CUDA_PATH'):
        if os.environ.get(name):
            home = Path(os.environ[name])
            if not (home / 'bin/nvcc').exists():
                sys.exit(f'mmdet/ops: {name}={home} holds no bin/nvcc; point it to a CUDA toolkit or unset it')
            # Distributions install CUDA_HOME/bin/nvcc as a wrapper too.
            return home if (home / 'include/cuda_runtime.h').exists() else toolkit_of(str(home / 'bin/nvcc'))
    candidates = [toolkit_of(nvcc)] if (nvcc := shutil.which('nvcc')) else []
    candidates += [Path(f'/usr/local/cuda-{torch.version.cuda}'), Path('/usr/local/cuda'), Path('/opt/cuda')]
    return next((home for home in candidates if home and (home / 'bin/nvcc').exists()), None)


def choose_cuda() -> Path | None:
    """Return the toolkit to build CUDA kernels with, or None for a CPU-only library."""
    wish = os.environ.get('FORCE_CUDA', '')
    if wish not in ('', '0', '1'):
        sys.exit(f'mmdet/ops: FORCE_CUDA={wish} is neither 0 nor 1')
    if wish == '0' or (wish == '' and not torch.cuda.is_available()) or (wish == '' and not torch.version.cuda):
        return None
    if not torch.version.cuda:
        sys.exit(f'mmdet/ops: FORCE_CUDA=1, but PyTorch {torch.__version__} of {sys.executable} has no CUDA; '
                 'install a CUDA build of PyTorch or unset FORCE_CUDA')
    home = find_cuda()
    if home is None and wish == '1':
        sys.exit(f'mmdet/ops: FORCE_CUDA=1, but there is no nvcc; install the CUDA {torch.version.cuda} toolkit '
                 'or set CUDA_HOME to it')
    if home is None:
        print('mmdet/ops: there is a GPU but no nvcc, so only the CPU kernels are built; for CUDA install the '
              f'CUDA {torch.version.cuda} toolkit or set CUDA_HOME to it')
    return home


def check_compilers(cxx: str, cuda_home: Path | None) -> None:
    """Compile a short test program with each compiler and exit with a one-line message if that fails."""
    if shutil.which(cxx) is None:
        sys.exit(f'mmdet/ops: there is no C++ compiler {cxx}; install g++ 9 or newer, or set CXX')
    with tempfile.TemporaryDirectory() as folder:
        source, cuda_source, target = Path(folder, 'probe.cpp'), Path(folder, 'probe.cu'), Path(folder, 'probe.o')
        source.write_text('#include <omp.h>\n#include <optional>\nstd::optional<int> value;\n')
        cuda_source.write_text('#include <cuda_runtime.h>\n__global__ void probe() {}\n')
        probe = run(cxx, '-std=c++17', '-fopenmp', '-c', source, '-o', target)
        if probe.returncode:
            sys.exit(f'mmdet/ops: {cxx} does not compile C++17 with OpenMP ({first_error(probe.stderr)}); '
                     'install g++ 9 or newer, or set CXX to one')
        if cuda_home is None:
            return
        nvcc = cuda_home / 'bin/nvcc'
        release = re.search(r'release (\d+\.\d+)', run(nvcc, '--version').stdout)
        if release is None or release[1].split('.')[0] != torch.version.cuda.split('.')[0]:
            sys.exit(f'mmdet/ops: {nvcc} is CUDA {release[1] if release else "of an unknown version"}, PyTorch '
                     f'{torch.__version__} was built with CUDA {torch.version.cuda}; set CUDA_HOME to a toolkit '
                     f'{torch.version.cuda.split(".")[0]}.x, or FORCE_CUDA=0 to build for the CPU alone')
        probe = run(nvcc, '-ccbin', cxx, '-std=c++17', '-c', cuda_source, '-o', target)
        if probe.returncode:
            sys.exit(f'mmdet/ops: {nvcc} does not work with {cxx} ({first_error(probe.stdout + probe.stderr)}); '
                     f'set CXX to a compiler that CUDA {release[1]} supports, or FORCE_CUDA=0')


def first_error(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return next((line for line in lines if 'error' in line.lower()), lines[0] if lines else 'no message')


def extensions(cuda_home: Path | None) -> tuple[list, dict]:
    from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension

    folders = [SOURCES, SOURCES / 'cuda'] if cuda_home else [SOURCES]
    # compile.sh builds from another folder and needs absolute paths; pip builds from the root and needs relative ones.
    base = Path() if Path.cwd() == ROOT else ROOT
    sources = sorted(str(base / path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).glob('*.c*')
                     if path.is_file())
    extension = (CUDAExtension if cuda_home else CppExtension)(
        'mmdet.ops.correlation._C', sources,
        define_macros=[('MEMCNP_WITH_CUDA', None)] if cuda_home else [],
        # at::parallel_for is a template: compiled without OpenMP, it would run on one thread.
        extra_compile_args={'cxx': ['-O3', '-fopenmp'], 'nvcc': ['-O3']}, extra_link_args=['-fopenmp'])
    return [extension], {'build_ext': BuildExtension}


def main() -> None:
    # Files other than Python modules that belong in the wheel.
    data = {'mmdet': ['**/LICENSE', '**/*.html', '**/*.css', '**/*.js']}
    commands: dict = {'build_py': BuildWithProjectFiles}
    if not COMPILES:
        print(f'mmdet/ops: there is no C++ compiler {CXX}, so the operators stay plain PyTorch')
        setup(cmdclass=commands, package_data=data)
        return
    cuda_home = choose_cuda()
    check_compilers(CXX, cuda_home)
    if cuda_home:
        os.environ['CUDA_HOME'] = str(cuda_home)  # read by torch.utils.cpp_extension when it is imported
        if not torch.cuda.is_available():
            os.environ.setdefault('TORCH_CUDA_ARCH_LIST', DEFAULT_ARCHITECTURES)
    modules, build_ext = extensions(cuda_home)
    setup(ext_modules=modules, cmdclass=commands | build_ext, package_data=data)


main()
