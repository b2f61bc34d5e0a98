"""Triton launches on the current GPU, whatever GPU its arguments are on; called by the ops around their launches."""
from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def on_device_of(tensor: Tensor) -> AbstractContextManager:
    """Makes a tensor's GPU the current one; does nothing for one on the CPU."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()
