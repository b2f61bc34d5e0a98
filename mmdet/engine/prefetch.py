"""The next training batch is loaded and brought to the GPU while that works on the current one.

Called by the training loop and by the measure of its speed (tools/analysis_tools/measures/speed.py).
"""
from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmdet.background import in_background

Item = TypeVar('Item')


@contextmanager
def prefetched(batches: Iterable[dict], loader: DataLoader, model: nn.Module,
               preprocessor: nn.Module | None) -> Iterator[Iterable[dict]]:
    """The same batches; where the model is on a GPU, a thread has the next one ready there, as its item ``'prepared'``.

    The thread begins with a batch when the model's forward pass over the one before it has ended on the host, and its
    work ends before the next forward pass begins. So it does not keep the interpreter from launching that, and no CUDA
    graph is captured beside it. It works on a stream of its own, which the stream of the training waits for.

    Without a GPU the batches come as they are; without workers, too (data loaded in this process may draw from random
    numbers that the training seeds and draws from), and with data preprocessors that do not know ``'prepared'``: the
    class whose ``forward`` takes that item out of a batch and returns it sets ``takes_prepared = True``.

    Args:
        batches: of the loader; used by the thread alone. Take ``iter(loader)`` before: it draws a random number.
        loader: where they come from.
        model: its forward pass is the sign to begin; unwrapped (no ``DistributedDataParallel``).
        preprocessor: called with ``(batch, True)``, without autocast. None: the batches come as they are.

    Yields:
        An iterator. Leaving the context ends the thread; a batch that is ready is thrown away. What the loader or the
        preprocessor raises, is raised where that batch is asked for.
    """
    if preprocessor is None or not (_on_gpu(model) and loader.num_workers and _takes_prepared(preprocessor)):
        yield batches
        return
    side = SideStream(preprocessor, next(model.parameters()).device)
    ahead = OneAhead(map(side.prepare, batches))
    sign = model.register_forward_hook(lambda *_: ahead.begin())
    try:
        yield map(side.hand_over, ahead)
    finally:
        sign.remove()
        ahead.close()


def _on_gpu(model: nn.Module) -> bool:
    return next(model.parameters()).is_cuda


def _takes_prepared(preprocessor: nn.Module) -> bool:
    """Asks the class that ``forward`` comes from: one that overrides it may compute something else."""
    owner = next(cls for cls in type(preprocessor).__mro__ if 'forward' in vars(cls))
    return vars(owner).get('takes_prepared', False)


class OneAhead(Generic[Item]):
    """The same items; a thread takes each as soon as :meth:`begin` was called, at the latest when it is asked for.

    All methods are for one thread, the one that asks.

    Args:
        items: used by the thread alone; what it raises is raised where the item is asked for.
    """

    def __init__(self, items: Iterator[Item]) -> None:
        self._items = items
        self._permits = threading.Semaphore(0)  # items that the thread may still take
        self._begun = self._closed = False
        self._ready = in_background(self._permitted(), 1, 'next batch')

    def _permitted(self) -> Generator[Item, None, None]:
        """Runs in the thread."""
        while self._permits.acquire() and not self._closed:
            try:
                yield next(self._items)
            except StopIteration:
                return

    def begin(self) -> None:
        """Lets the thread take the item that will be asked for next, if it does not already."""
        if not self._begun:
            self._begun = True
            self._permits.release()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        self.begin()
        item = next(self._ready)
        self._begun = False
        return item

    def close(self) -> None:
        """Ends the thread."""
        self._closed = True
        self._permits.release()
        self._ready.close()


class SideStream:
    """Prepares batches on a stream beside the current one.

    Args:
        preprocessor: called with a batch and True.
        device: the GPU.
    """

    def __init__(self, preprocessor: Callable[[dict, bool], Any], device: torch.device) -> None:
        self.preprocessor = preprocessor
        self.stream = torch.cuda.Stream(device)
        self.stream.wait_stream(torch.cuda.current_stream(device))  # that writes the preprocessor's constants

    def prepare(self, batch: dict) -> tuple[dict, list[Tensor], torch.cuda.Event]:
        """Adds ``'prepared'``; also returns a tensor of each piece of its memory, and when that is written."""
        # a thread's device is the first GPU until it says otherwise
        with torch.cuda.device(self.stream.device), torch.cuda.stream(self.stream):
            batch['prepared'] = self.preprocessor(batch, True)
            memory = {tensor.untyped_storage().data_ptr(): tensor for tensor in _cuda_tensors(batch['prepared'])}
            return batch, list(memory.values()), self.stream.record_event()

    def hand_over(self, prepared: tuple[dict, list[Tensor], torch.cuda.Event]) -> dict:
        """In the thread that trains: the batch, which its current stream may use from here on."""
        batch, memory, written = prepared
        current = torch.cuda.current_stream(self.stream.device)
        current.wait_event(written)
        while memory:  # emptied: nothing may keep the memory but the batch
            memory.pop().record_stream(current)  # freed, it is not used again before the training's stream is done
        return batch


def _cuda_tensors(data: Any) -> Iterator[Tensor]:
    """All tensors on GPUs of a nested structure."""
    if isinstance(data, Tensor):
        if data.is_cuda:
            yield data
    elif isinstance(data, BaseDataElement | Mapping):
        for value in data.all_values() if isinstance(data, BaseDataElement) else data.values():
            yield from _cuda_tensors(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _cuda_tensors(value)
