"""Capture of CUDA graphs: warm-up, memory shared by several graphs, captures interrupted by calls outside of graphs.

Used by :mod:`mmdet.models.cuda_graphs`, which decides what is captured and when it is replayed.
"""
from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmdet.ops.device import InPlace, capturing


class Recorder:
    """Capture code as a sequence of CUDA graphs with calls between them; see ``call_outside_graphs``.

    Args:
        options: options of ``torch.cuda.graph``.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.steps: list[Callable[[], object]] = []

    @contextmanager
    def record(self) -> Iterator[None]:
        """Capture the code in the context as ``steps``."""
        # the garbage collector could destroy graphs of another model, which CUDA does not permit during a capture
        collects = gc.isenabled()
        gc.disable()
        self._begin()
        try:
            with capturing(self._split):
                yield
        finally:
            self._end()
            if collects:
                gc.enable()

    def _begin(self) -> None:
        self._graph = torch.cuda.CUDAGraph()
        self._context = torch.cuda.graph(self._graph, **self.options)
        self._context.__enter__()

    def _end(self) -> None:
        self._context.__exit__(None, None, None)
        self.steps.append(self._graph.replay)

    def _split(self, function: InPlace, tensor: Tensor) -> None:
        self._end()
        self.steps.append(partial(function, tensor))
        self._begin()


class SharedMemory:
    """Memory that several graphs use in turn, so that they need that of the largest rather than the sum.

    PyTorch permits this for graphs that never run at the same time, and whose results are not needed any more when
    another one of them runs (CUDA semantics, "Graph memory management"). Tensors that exist after a capture, such as
    outputs, keep their memory, but an earlier graph may overwrite them, in whose capture it was free. Conditions:

    - All replays are launched on one stream, which runs them one after the other.
    - Whatever must outlast a replay is copied or was allocated outside of a capture, such as parameters, buffers, the
      copies of inputs and the gradients of outputs.
    - The graphs of one call, such as forward and backward pass, are replayed in the order of their captures, without
      others in between, since one reads what another has left in the memory.

    All captures use one stream, since the allocator reuses memory only for the stream that it was allocated for; see
    the note on ``stream`` in ``torch.cuda.graph``.
    """

    def __init__(self) -> None:
        self._streams: dict[int, torch.cuda.Stream] = {}  # by GPU, since a module may move to another one
        self._pool: Any = None

    def renew(self) -> None:
        """Use another pool from now on; necessary after all graphs were freed, when PyTorch releases theirs."""
        self._pool = None

    def options(self) -> dict[str, Any]:
        """Return options of ``torch.cuda.graph`` for a capture on the current device."""
        device = torch.cuda.current_device()
        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream()
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        # thread_local: other threads may make CUDA calls, such as a data loader that pins memory, or another model
        return dict(stream=self._streams[device], pool=self._pool, capture_error_mode='thread_local')


def warm_up(run: Callable[[], object], times: int, stream: torch.cuda.Stream) -> None:
    """Call a function on the stream of the capture that follows, as is required before it.

    Calls outside of graphs are skipped, since other processes may not capture at the same step.
    """
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), capturing(lambda function, tensor: None):
        for _ in range(times):
            run()
    torch.cuda.current_stream().wait_stream(stream)
