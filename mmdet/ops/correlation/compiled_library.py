"""Load the library built by `compile.sh` or `pip install .`, once, when `mmdet.ops` is imported.

A missing or unusable library is not an error: `UNAVAILABLE` then holds the reason, and spatial_correlation.py falls
back to plain PyTorch.
"""
import sysconfig
from pathlib import Path

import torch

REMEDY = 'run compile.sh to build it'


def _load() -> str:
    """Load the library built for this Python; return '' or, in one line, the reason why it cannot be used."""
    path = Path(__file__).with_name(f'_C{sysconfig.get_config_var("EXT_SUFFIX")}')
    if not path.exists():
        return f'is not built; {REMEDY}'
    try:
        torch.ops.load_library(path)
    except OSError as error:  # built for another version of PyTorch or CUDA: symbols or libraries are missing
        return f'{path.name} does not load with PyTorch {torch.__version__} ({str(error).splitlines()[0]}); {REMEDY}'
    return ''


UNAVAILABLE = _load()


def has_cuda() -> bool:
    """Return whether the loaded library contains CUDA kernels."""
    return not UNAVAILABLE and bool(torch.ops.memcnp.correlation_build_info()[1])


def build_summary() -> str:
    """Describe in one line the library built for this Python, or why it cannot be used."""
    if UNAVAILABLE:
        return f'spatial correlation: the compiled operator {UNAVAILABLE}'
    torch_version, cuda_version = torch.ops.memcnp.correlation_build_info()
    return (f'spatial correlation: built for PyTorch {torch_version}, CPU'
            + (f' and CUDA {cuda_version // 1000}.{cuda_version % 1000 // 10}' if cuda_version else ' only'))
