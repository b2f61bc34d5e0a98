"""Helpers for code on a GPU: the current device, constants on a device, copies beside later work, CUDA graphs."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

InPlace = Callable[[Tensor], object]
_split_at: ContextVar[Callable[[InPlace, Tensor], None] | None] = ContextVar('split_at', default=None)


def on_device_of(tensor: Tensor) -> AbstractContextManager:
    """Make a tensor's GPU the current device, where Triton launches its kernels; do nothing for a tensor on the CPU."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def device_constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return a float32 tensor (len(values),), created once per device and shared by all callers: never modify it.

    Creating it at every call would copy from the host, which CUDA graphs cannot capture. A graph reads the constant at
    the address it had during the capture, so the cache is unbounded and never frees one.
    """
    if torch.compiler.is_exporting():  # values may be symbolic sizes
        return torch.cat([torch.full((1,), value, dtype=torch.float32, device=device) for value in values])
    return _device_constant(values, device)


@cache
def _device_constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32, device=device)


def device_rows(rows: Sequence[tuple[float, ...]], device: torch.device) -> Tensor:
    """Return rows of equal length as a float32 tensor; never modify it. Equal rows are copied to the device only once.

    For sizes of the frames of a clip, which are the same for all frames of a video.
    """
    if len(set(rows)) == 1:
        return device_constant(rows[0], device).expand(len(rows), -1)
    return torch.tensor(rows, dtype=torch.float32).to(device, non_blocking=True)


def initialise_gpu(device: torch.device) -> None:
    """Create the context of a GPU and the handles of cuBLAS and cuDNN.

    Otherwise the first use of each waits for it, up to seconds altogether. Called in a thread while the host prepares
    something else.
    """
    with torch.no_grad(), torch.cuda.device(device):
        maps = torch.zeros(1, 8, 8, 8, dtype=torch.bfloat16, device=device)
        torch.matmul(maps, F.conv2d(maps, maps.new_zeros(8, 8, 1, 1)))


class Launched:
    """The work that has been launched so far on the current stream of a device. On a CPU it has been completed.

    Args:
        device: device of the work.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._end: torch.cuda.Event | None = None
        if device.type == 'cuda':
            self._end = torch.cuda.Event()
            self._end.record(torch.cuda.current_stream(device))

    def wait(self) -> None:
        """Wait until the work has been completed, but not for work that was launched later."""
        if self._end is not None:
            self._end.synchronize()

    @contextmanager
    def results(self) -> Iterator[None]:
        """Let the code in the context read the results of the work, without waiting for work that was launched later.

        The code runs on a stream of its own, and is complete at the end of the context. It must not write to the
        results, which must not be overwritten before, such as by the next replay of a CUDA graph.
        """
        if self._end is None:
            yield
            return
        stream = _side_stream(self._device)
        stream.wait_event(self._end)
        try:
            with torch.cuda.stream(stream):
                yield
        finally:
            stream.synchronize()  # the memory of the results may be reused on their own stream from now on


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return a stream whose few small kernels run before those that wait on the default stream."""
    return torch.cuda.Stream(device, priority=-1)


@contextmanager
def capturing(split_at: Callable[[InPlace, Tensor], None]) -> Iterator[None]:
    """Mark the code in the context as captured in a CUDA graph, or as the warm-up of a capture.

    Args:
        split_at: called with the arguments of :func:`call_outside_graphs`; ends the current graph, and begins the next.
    """
    token = _split_at.set(split_at)
    try:
        yield
    finally:
        _split_at.reset(token)


def is_capturing() -> bool:
    """Return whether a CUDA graph is being captured.

    During a capture, shapes must not depend on values, and nothing may synchronise with the GPU.
    """
    return _split_at.get() is not None


def call_outside_graphs(function: InPlace, tensor: Tensor) -> None:
    """Call ``function(tensor)``, an in-place operation that cannot be captured, such as a reduction over processes.

    A graph that is being captured ends before the call and another begins after it; replaying calls the function
    between the two.
    """
    split_at = _split_at.get()
    if split_at is None:
        function(tensor)
    else:
        split_at(function, tensor)
