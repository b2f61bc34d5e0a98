"""Reproducibility: settings and errors of PyTorch for ``--deterministic``, and float32 without TF32.

Used by ``mmdet.apis.train`` and ``mmdet.apis.test``, the runner and ``tools/video_demo.py``.
"""
from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mmdet.errors import UserError

_NAME, _VALUE = 'CUBLAS_WORKSPACE_CONFIG', ':4096:8'


def prepare_cublas() -> None:
    """Set a fixed cuBLAS workspace for each stream; to be called before the first matrix product on a GPU."""
    os.environ.setdefault(_NAME, _VALUE)


def use_full_float32() -> None:
    """Disable TF32 in this process: compute matrix products and convolutions of float32 tensors in float32.

    PyTorch's default for convolutions is TF32, which rounds their inputs to 10 bits of mantissa (float32 has 23).
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


@contextmanager
def refusals_in_one_line() -> Iterator[None]:
    """Convert PyTorch's errors about non-deterministic operations to UserError."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if 'CUBLAS_WORKSPACE_CONFIG=' in text:
            raise UserError(f'--deterministic: {_NAME}={os.environ.get(_NAME, "")} lets the sums of cuBLAS differ; '
                            f'unset it or set it to {_VALUE}') from None
        if 'does not have a deterministic implementation' in text:
            raise UserError(f'--deterministic: {text.split()[0]} cannot give the same numbers again on this device; '
                            'train without --deterministic, or on the CPU (--gpus 0)') from None
        raise
