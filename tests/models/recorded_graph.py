"""CUDA graphs on the CPU: operators are recorded with their tensors and run again into the same tensors."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmdet.models import cuda_graphs


class RecordedGraph(TorchDispatchMode):
    """Stands in for ``torch.cuda.CUDAGraph``. Unlike a capture, recording computes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        synchronises = torch.Tag.dynamic_output_shape in func.tags or torch.Tag.data_dependent_output in func.tags
        if func is torch.ops.aten.index.Tensor:
            synchronises = any(index is not None and index.dtype == torch.bool for index in args[1])
        if func is torch.ops.aten.lift_fresh.default:
            raise RuntimeError('a captured function created a tensor from values of the host')
        if synchronises:
            raise RuntimeError(f'a captured function synchronised with the GPU: {func}')
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, out in self.calls:
                given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs))
                         if isinstance(leaf, Tensor)}
                new = func(*args, **kwargs)
                for old, fresh in zip(tree_leaves(out), tree_leaves(new)):
                    # views and in-place operators have done their work
                    if isinstance(old, Tensor) and old.untyped_storage().data_ptr() not in given:
                        old.copy_(fresh)


@contextmanager
def _record(graph: RecordedGraph, **options: object) -> Iterator[None]:
    with graph:
        yield


def use_recorded_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets code that captures CUDA graphs run on the CPU."""
    def stream() -> SimpleNamespace:
        return SimpleNamespace(wait_stream=lambda other: None)

    for name, value in dict(
            CUDAGraph=RecordedGraph, graph=_record, Stream=stream, current_stream=stream,
            stream=lambda chosen: nullcontext(), device=lambda chosen: nullcontext(), current_device=lambda: 0,
            graph_pool_handle=object, empty_cache=lambda: None, mem_get_info=lambda: (1, 1)).items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(cuda_graphs, '_DEVICES', ('cuda', 'cpu'))
    monkeypatch.setattr(torch.random, 'fork_rng', lambda devices: _keep_seed())


@contextmanager
def _keep_seed() -> Iterator[None]:
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)
