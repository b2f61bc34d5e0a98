"""Files that appear complete or not at all: results, reports, annotations. Checkpoints: ``engine/files.py``."""
from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from mmdet.errors import UserError


@contextmanager
def atomic_open(path: str, mode: str = 'wb') -> Iterator[IO]:
    """A file that takes its name only once it is complete and on the disk; after an error nothing of it is left.

    Raises:
        UserError: it cannot be written (no space, no permission).
    """
    temporary = f'{path}.{os.getpid()}.tmp'
    try:
        os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
        with open(temporary, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror or error}); free space or choose another '
                        'path') from error
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
