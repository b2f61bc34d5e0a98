"""Files that appear complete or not at all. Used for checkpoints."""
from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from mmdet.errors import UserError

ATOMIC = dict(backend='atomic')  # ``backend_args`` that choose the backend below


@register_backend('atomic')
class AtomicBackend(LocalBackend):
    """mmengine's local files, written beside their place, flushed to the disk and renamed."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes a file; raises UserError, and leaves a former version as it was, if the disk is full."""
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f'.{path.name}.{os.getpid()}.partial')
        try:
            with partial.open('wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # the new name, too, survives a crash of the machine
            finally:
                os.close(folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(f'{path}: not written, the disk is full; what was written before is intact: make room '
                                'and resume') from None
            raise
