"""Environments and launchers of the processes that tests start."""
from __future__ import annotations

import os
from pathlib import Path

TORCHRUN = ('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2')  # Python's arguments, two processes


def with_search_path(*folders: Path) -> str:
    """``PYTHONPATH`` with these folders first; what is there stays, for packages may be installed there."""
    return os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get('PYTHONPATH')])])
