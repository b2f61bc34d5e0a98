"""Pixels of a map that lie in boxes; used where coefficient masks are trained and drawn."""
from __future__ import annotations

import torch
from torch import Tensor


def inside_boxes(bboxes: Tensor, height: int, width: int) -> Tensor:
    """(..., 4) boxes in pixels of the map → (..., height, width) bool: x1 ≤ x < x2 and y1 ≤ y < y2 at integer x, y."""
    x = torch.arange(width, device=bboxes.device)
    y = torch.arange(height, device=bboxes.device)
    x1, y1, x2, y2 = bboxes[..., None].unbind(dim=-2)  # (..., 1)
    columns = (x >= x1) & (x < x2)  # (..., width)
    rows = (y >= y1) & (y < y2)
    return rows[..., :, None] & columns[..., None, :]
