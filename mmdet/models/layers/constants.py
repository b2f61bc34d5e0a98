"""Small constant tensors, made once per device: making them in a hot path would copy from the host every time.

Called by heads and their losses; CUDA graphs cannot capture such a copy at all, and read it where it was: none is ever
dropped.
"""
from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


@cache
def device_constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """(len(values),) float32 tensor. Never write to it: every caller gets the same one."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32, device=device)
