"""Load the next training batch and bring it to the GPU while that works on the current one.

:func:`prefetched` wraps a pass over the data loader, from outside: loader, data preprocessor and model do not know it.
Called by the training loop and by the benchmark of training (tools/analysis_tools/measures/speed.py).
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
    """A batch as the loader made it, for hooks.

    Attributes:
        ready: what the data preprocessor returned for it; None once it was used. A hook that changes the batch sets it
            to None, and the batch is preprocessed again.
    """

    ready: Any = None


@contextmanager
def prefetched(batches: Iterable[dict], loader: DataLoader, model: nn.Module,
               preprocessor: nn.Module | None) -> Iterator[Iterable[dict]]:
    """Make a pass over a loader yield batches that are preprocessed on the GPU already.

    Within the context the preprocessor, called with such a :class:`ReadyBatch`, returns what is ready. A thread starts
    with a batch when the model's forward pass over the one before has ended on the host, and is done before the next
    forward pass begins. So it does not keep the interpreter from launching that pass, and no CUDA graph is captured
    beside it. The thread works on a stream of its own, which the stream of the training waits for.

    Every operation and its inputs are the same as without, only stream and time differ. So the losses are bit-equal
    wherever the training is deterministic (``--deterministic``).

    The batches are passed on unchanged without a GPU; without workers, because data loaded in this process may draw
    from random numbers that the training seeds and draws from; and unless the preprocessor is known to draw no random
    numbers and to keep no state: the class that defines ``forward`` says so by ``deterministic_forward = True``.

    Args:
        batches: of the loader; used by the thread alone. Take ``iter(loader)`` before: it draws a random number.
        loader: where they come from.
        model: the end of its forward pass starts the next batch; unwrapped (no ``DistributedDataParallel``).
        preprocessor: called with ``(batch, True)``, without autocast. None: the batches are passed on unchanged.

    Yields:
        An iterator. Leaving the context ends the thread; a batch that is ready is discarded. What the loader or the
        preprocessor raises is raised where that batch is requested.
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

    # as torch.cuda.make_graphed_callables does with a module: its class does not change
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
    """Ask the class that defines ``forward``: one that overrides it may compute something else."""
    owner = next(cls for cls in type(preprocessor).__mro__ if 'forward' in vars(cls))
    return vars(owner).get('deterministic_forward', False)


class SideStream:
    """Preprocess batches on a stream beside the current one.

    Args:
        preprocess: called with a batch and True.
        device: the GPU.
    """

    def __init__(self, preprocess: Callable[[dict, bool], Any], device: torch.device) -> None:
        self.preprocess = preprocess
        self.stream = torch.cuda.Stream(device)
        self.stream.wait_stream(torch.cuda.current_stream(device))  # that writes the preprocessor's constants

    def prepare(self, batch: dict) -> tuple[ReadyBatch, list[Tensor], torch.cuda.Event]:
        """Preprocess a batch; also returns a tensor of each piece of its memory, and the event when that is written."""
        batch = ReadyBatch(batch)
        # a thread's device is the first GPU until it says otherwise
        with torch.cuda.device(self.stream.device), torch.cuda.stream(self.stream):
            batch.ready = self.preprocess(batch, True)
            memory = {tensor.untyped_storage().data_ptr(): tensor for tensor in _cuda_tensors(batch.ready)}
            return batch, list(memory.values()), self.stream.record_event()

    def hand_over(self, prepared: tuple[ReadyBatch, list[Tensor], torch.cuda.Event]) -> ReadyBatch:
        """In the thread that trains: return the batch, which its current stream may use from here on."""
        batch, memory, written = prepared
        current = torch.cuda.current_stream(self.stream.device)
        current.wait_event(written)
        while memory:  # emptied: nothing may keep the memory but the batch
            memory.pop().record_stream(current)  # freed, it is not used again before the training's stream is done
        return batch


def _cuda_tensors(data: Any) -> Iterator[Tensor]:
    """Yield all tensors on GPUs of a nested structure."""
    if isinstance(data, Tensor):
        if data.is_cuda:
            yield data
    elif isinstance(data, BaseDataElement | Mapping):
        for value in data.all_values() if isinstance(data, BaseDataElement) else data.values():
            yield from _cuda_tensors(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _cuda_tensors(value)
