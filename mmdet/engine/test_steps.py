"""Test steps of a model for successive batches, with the work of the host beside that of the GPU.

Called by the test loop and by :class:`mmdet.apis.VideoInferencer`.
"""
from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import nn

from mmdet.concurrency import overlapped
from mmdet.structures import TrackDataSample

Clips = list[TrackDataSample]


def run_test_steps(model: nn.Module, batches: Iterable[dict], amp_dtype: torch.dtype | None = None,
                   overlap: bool | None = None) -> Generator[tuple[dict, Clips], None, None]:
    """Yield each batch and the results of ``model.test_step(batch)``.

    Args:
        model: model; only one with ``start_test_step`` (:class:`mmdet.models.detectors.base.BaseDetector`) overlaps.
        batches: arguments of ``test_step``.
        amp_dtype: dtype of autocast; None: no autocast.
        overlap: launch a batch on the GPU before the results of the batch before are copied, encoded and tracked on the
            host. The results are the same and come one batch later. None: if the model is on a GPU.

    Raises:
        Exception: an error of ``batches`` or of the network, after the results of all earlier batches.
    """
    device = next((parameter.device.type for parameter in model.parameters()), 'cpu')
    context = partial(torch.autocast, device, amp_dtype, enabled=amp_dtype is not None)
    start = partial(_start, _first_half(model), context)
    if overlap is None:
        overlap = device == 'cuda'
    return overlapped(batches, start) if overlap else ((batch, start(batch)()) for batch in batches)


def _first_half(model: Any) -> Callable[[dict], Callable[[], Clips]]:
    """Return the method for the first half of a test step; that of a model that is not split does nothing."""
    return getattr(model, 'start_test_step', None) or (lambda batch: partial(model.test_step, batch))


@torch.no_grad()
def _start(start: Callable[[dict], Callable[[], Clips]], context: Callable[[], AbstractContextManager],
           batch: dict) -> Callable[[], Clips]:
    with context():
        finish = start(batch)

    @torch.no_grad()
    def finish_in_context() -> Clips:
        with context():
            return finish()

    return finish_in_context
