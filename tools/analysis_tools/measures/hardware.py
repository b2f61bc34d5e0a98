"""Description of the hardware and software of a measurement. Called by the benchmarks of tools/analysis_tools."""
from __future__ import annotations

import platform
from pathlib import Path

import mmcv
import mmengine
import torch
import torchvision


def hardware(device: torch.device) -> str:
    """Return one line: GPU and CUDA version, if ``device`` is a GPU; CPU and number of threads; package versions."""
    gpu = f'{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}; ' if device.type == 'cuda' else ''
    return (f'{gpu}{_processor()}, {torch.get_num_threads()} threads; Python {platform.python_version()}, '
            f'torch {torch.__version__}, torchvision {torchvision.__version__}, mmengine {mmengine.__version__}, '
            f'mmcv {mmcv.__version__}')


def _processor() -> str:
    """Return the CPU's name, from /proc/cpuinfo on Linux, where ``platform.processor()`` is often empty."""
    path = Path('/proc/cpuinfo')
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(':')[2].strip() for line in lines if line.startswith('model name')),
                platform.processor() or platform.machine())
