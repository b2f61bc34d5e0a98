"""Description of the hardware and software of a measurement. Called by the benchmarks of tools/analysis_tools."""
from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import mmcv
import mmengine
import torch
import torchvision

ROOT = Path(__file__).resolve().parents[3]


def hardware(device: torch.device) -> str:
    """Return one line: GPU and CUDA version, if ``device`` is one; CPU, usable cores, threads; package versions."""
    gpu = f'{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}; ' if device.type == 'cuda' else ''
    named = ', '.join(f'{name} {version}' for name, version in versions().items())
    return f'{gpu}{_processor()}, {_cores()} cores, {torch.get_num_threads()} threads; {named}'


def machine(device: torch.device) -> dict[str, object]:
    """Return what must be equal for times to be comparable: ``gpu`` (or None), ``cpu``, ``cores`` and ``threads``."""
    return dict(gpu=torch.cuda.get_device_name(device) if device.type == 'cuda' else None, cpu=_processor(),
                cores=_cores(), threads=torch.get_num_threads())


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide about the speed."""
    return {'Python': platform.python_version(), 'torch': torch.__version__, 'torchvision': torchvision.__version__,
            'mmengine': mmengine.__version__, 'mmcv': mmcv.__version__}


def commit() -> str | None:
    """Return the abbreviated commit of the working tree, with ``+`` if files differ from it; None outside of git."""
    try:
        # --git-dir: a project without a repository of its own must not report that of a folder above it
        done = subprocess.run(['git', f'--git-dir={ROOT / ".git"}', f'--work-tree={ROOT}', 'describe', '--always',
                               '--abbrev=7', '--exclude=*', '--dirty=+'], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def _cores() -> int:
    """Return how many cores this process may use: ``taskset`` and Slurm leave it fewer than the machine has."""
    return len(os.sched_getaffinity(0))


def _processor() -> str:
    """Return the CPU's name, from /proc/cpuinfo on Linux, where ``platform.processor()`` is often empty."""
    path = Path('/proc/cpuinfo')
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(':')[2].strip() for line in lines if line.startswith('model name')),
                platform.processor() or platform.machine())
