"""Environments of the processes that tests start."""
from __future__ import annotations

import os
from pathlib import Path


def with_search_path(*folders: Path) -> str:
    """``PYTHONPATH`` with these folders first; what is there stays, for packages may be installed there."""
    return os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get('PYTHONPATH')])])
