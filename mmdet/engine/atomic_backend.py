"""Checkpoints appear complete or not at all. Named as the file backend wherever mmengine writes one."""
from __future__ import annotations

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from mmdet.files import atomic_open

ATOMIC = dict(backend='atomic')  # ``backend_args`` that choose the backend below


@register_backend('atomic')
class AtomicBackend(LocalBackend):
    """mmengine's local files, written by :func:`mmdet.files.atomic_open`."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file; on failure raise UserError and leave a former version as it was."""
        with atomic_open(filepath) as file:
            file.write(obj)
