"""Prefetching: load and preprocess the next training batch on the GPU during the current training step.

:func:`prefetched` wraps a pass over the data loader from outside; loader, data preprocessor and model do not depend on
it. Called by the training loop and by the benchmark of training (tools/analysis_tools/measures/speed.py).
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmdet.concurrency import OnDemandIterator


class ReadyBatch(dict):
    """A batch as returned by the loader, with its preprocessed version.

    Attributes:
        ready: output of the data preprocessor for the batch; None after it was used. A hook that changes the batch must
            set it to None, so that the batch is preprocessed again.
    """

    ready: Any = None


@contextmanager
def prefetched(batches: Iterable[dict], loader: DataLoader, model: nn.Module,
               preprocessor: nn.Module | None) -> Iterator[Iterable[dict]]:
    """Prefetch the batches of a pass over a loader and preprocess them on the GPU.

    Within the context the preprocessor, called with a :class:`ReadyBatch`, returns the prefetched result. A thread
    starts to prepare a batch when the model's forward pass for the preceding batch has returned on the host, and
    finishes before the next forward pass begins. Therefore it does not delay the kernel launches of that pass, and no
    CUDA graph is captured at the same time. The thread uses a separate CUDA stream, with which the training's stream is
    synchronised.

    Operations and inputs are the same as without prefetching, so that the losses are bit-equal if the training is
    deterministic (``--deterministic``).

    The batches are passed through unchanged in three cases: without a GPU; without workers, because loading in this
    process may use the random number generators that the training seeds and uses; and unless the preprocessor uses no
    random numbers and has no state, which the class that defines ``forward`` declares by ``deterministic_forward =
    True``.

    Args:
        batches: iterator of the loader, used by the thread alone. Create it with ``iter(loader)`` before the call,
            because that draws a random number.
        loader: the data loader of the batches.
        model: the model without ``DistributedDataParallel``; the end of its forward pass starts the next batch.
        preprocessor: called with ``(batch, True)``, without autocast. None: the batches are passed through unchanged.

    Yields:
        An iterator over the batches. Leaving the context ends the thread and discards a prefetched batch. Exceptions of
        the loader and the preprocessor are raised where their batch is requested.
    """
    if preprocessor is None or not (_on_gpu(model) and loader.num_workers and _is_deterministic(preprocessor)):
        yield batches
        return
    preprocess = preprocessor.forward
    side = SideStream(preprocess, next(model.parameters()).device)
    ahead = OnDemandIterator(map(side.prepare, batches), 'next batch')
    hook = model.register_forward_hook(lambda *_: ahead.begin())

    def forward(data: dict, training: bool = False) -> Any:
        if not isinstance(data, ReadyBatch) or data.ready is None:
            return preprocess(data, training)
        ready, data.ready = data.ready, None
        return ready

    # replace forward of the instance, as torch.cuda.make_graphed_callables does; the class does not change
    preprocessor.forward = forward
    try:
        yield map(side.hand_over, ahead)
    finally:
        del preprocessor.forward
        hook.remove()
        ahead.close()


def _on_gpu(model: nn.Module) -> bool:
    return next(model.parameters()).is_cuda


def _is_deterministic(preprocessor: nn.Module) -> bool:
    """Return the attribute of the class that defines ``forward``; a subclass that overrides it must declare it, too."""
    owner = next(cls for cls in type(preprocessor).__mro__ if 'forward' in vars(cls))
    return vars(owner).get('deterministic_forward', False)


class SideStream:
    """Preprocesses batches on a separate CUDA stream.

    Args:
        preprocess: called with a batch and True.
        device: the GPU.
    """

    def __init__(self, preprocess: Callable[[dict, bool], Any], device: torch.device) -> None:
        self.preprocess = preprocess
        self.stream = torch.cuda.Stream(device)
        self.stream.wait_stream(torch.cuda.current_stream(device))  # which writes the preprocessor's constants

    def prepare(self, batch: dict) -> tuple[ReadyBatch, list[Tensor], torch.cuda.Event]:
        """Preprocess a batch; also return a tensor of each of its storages and the event of their completion."""
        batch = ReadyBatch(batch)
        # the current device of a new thread is the first GPU
        with torch.cuda.device(self.stream.device), torch.cuda.stream(self.stream):
            batch.ready = self.preprocess(batch, True)
            memory = {tensor.untyped_storage().data_ptr(): tensor for tensor in _cuda_tensors(batch.ready)}
            return batch, list(memory.values()), self.stream.record_event()

    def hand_over(self, prepared: tuple[ReadyBatch, list[Tensor], torch.cuda.Event]) -> ReadyBatch:
        """Return the batch for use on the current stream of the calling thread, the one that trains."""
        batch, memory, written = prepared
        current = torch.cuda.current_stream(self.stream.device)
        current.wait_event(written)
        while memory:  # emptied, so that only the batch keeps references to the memory
            memory.pop().record_stream(current)  # after it is freed, its reuse waits for the training's stream
        return batch


def _cuda_tensors(data: Any) -> Iterator[Tensor]:
    """Yield all CUDA tensors of a nested structure."""
    if isinstance(data, Tensor):
        if data.is_cuda:
            yield data
    elif isinstance(data, BaseDataElement | Mapping):
        for value in data.all_values() if isinstance(data, BaseDataElement) else data.values():
            yield from _cuda_tensors(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _cuda_tensors(value)
