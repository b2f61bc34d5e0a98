"""Replay of fixed-shape functions as one CUDA graph each; called by the detectors in testing.

At one frame a step a network of a thousand small kernels waits for their launches; a graph launches them as one.
"""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

import torch
from torch import Tensor


class CudaGraphs:
    """Runs fixed-shape functions of a tensor; from the second call with the same shapes on as a CUDA graph.

    The functions must have fixed shapes and must not look at the device. A graph's outputs are overwritten by its next
    replay. Copies and pickles of an object hold no graph: those belong to the tensors that they were captured with.

    Args:
        max_graphs: graphs kept; the longest unused leaves first, with its memory.
    """

    def __init__(self, max_graphs: int = 8) -> None:
        self.max_graphs = max_graphs
        self._graphs: OrderedDict[Hashable, tuple[torch.cuda.CUDAGraph, Tensor, object]] = OrderedDict()
        self._seen: set[Hashable] = set()

    def __reduce__(self) -> tuple:
        return type(self), (self.max_graphs,)

    def clear(self) -> None:
        """Drop all graphs: necessary when a tensor they read was replaced."""
        self._graphs.clear()
        self._seen.clear()

    def run(self, function: Callable[..., object], tensor: Tensor, *args: Hashable) -> object:
        """``function(tensor, *args)``, a (nested) structure of tensors.

        The graph is chosen by the function's name, the tensor's shape, ``args`` and autocast's state.
        """
        key = (function.__qualname__, tuple(tensor.shape), tensor.dtype, torch.is_autocast_enabled('cuda'),
               torch.get_autocast_dtype('cuda'), args)
        if key not in self._graphs:
            # the first call with a key runs as it is: videos of a size met once are not worth a capture
            if key not in self._seen:
                self._seen.add(key)
                return function(tensor, *args)
            with torch.cuda.device(tensor.device):
                self._graphs[key] = self._capture(function, tensor, args)
            if len(self._graphs) > self.max_graphs:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        graph, static_input, output = self._graphs[key]
        static_input.copy_(tensor, non_blocking=True)
        graph.replay()
        return output

    @staticmethod
    def _capture(function: Callable[..., object], tensor: Tensor,
                 args: tuple) -> tuple[torch.cuda.CUDAGraph, Tensor, object]:
        static_input = tensor.clone()

        def run() -> object:
            # autocast's cache of cast weights would outlive the graph's memory
            with torch.autocast('cuda', torch.get_autocast_dtype('cuda'), torch.is_autocast_enabled('cuda'),
                                cache_enabled=False):
                return function(static_input, *args)

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = run()
        return graph, static_input, output
