"""Atomic writing of checkpoints: a file backend for mmengine."""
from __future__ import annotations

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from mmdet.files import atomic_open

ATOMIC = dict(backend='atomic')  # ``backend_args`` that select the backend below


@register_backend('atomic')
class AtomicBackend(LocalBackend):
    """mmengine's local files, written by :func:`mmdet.files.atomic_open`."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file; on failure raise UserError and keep an earlier version unchanged."""
        with atomic_open(filepath) as file:
            file.write(obj)
