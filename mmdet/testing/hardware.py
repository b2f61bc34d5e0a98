"""What a measurement ran on, in one line. Called by the benchmarks of tools/analysis_tools."""
from __future__ import annotations

import platform
from pathlib import Path

import mmcv
import mmengine
import torch
import torchvision


def hardware(device: torch.device) -> str:
    """The GPU with its CUDA version, or the processor with the threads that torch uses on it; versions of packages."""
    if device.type == 'cuda':
        name = f'{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}'
    else:
        name = f'{_processor()}, {torch.get_num_threads()} threads'
    return (f'{name}; Python {platform.python_version()}, torch {torch.__version__}, '
            f'torchvision {torchvision.__version__}, mmengine {mmengine.__version__}, mmcv {mmcv.__version__}')


def _processor() -> str:
    """``platform.processor()`` says nothing on most Linux machines."""
    path = Path('/proc/cpuinfo')
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(':')[2].strip() for line in lines if line.startswith('model name')),
                platform.processor() or platform.machine())
