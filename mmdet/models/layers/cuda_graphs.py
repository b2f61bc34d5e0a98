"""Replay of a fixed-shape function as one CUDA graph; called by the detectors in testing.

At one frame a step a network of a thousand small kernels waits for their launches; a graph launches them as one.
"""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

import torch
from torch import Tensor


class GraphedFunction:
    """Runs ``function(tensor)``; from the second call with a key on as a CUDA graph.

    The function must have fixed shapes for a key and must not look at the device. A graph's outputs are overwritten by
    its next replay.

    Args:
        function: called with one tensor; returns a (nested) structure of tensors.
        max_graphs: graphs kept; the longest unused leaves first, with its memory.
    """

    def __init__(self, function: Callable[..., object], max_graphs: int = 8) -> None:
        self.function, self.max_graphs = function, max_graphs
        self._graphs: OrderedDict[Hashable, tuple[torch.cuda.CUDAGraph, Tensor, object]] = OrderedDict()
        self._seen: set[Hashable] = set()

    def clear(self) -> None:
        """Drop all graphs: necessary when a tensor they read was replaced."""
        self._graphs.clear()
        self._seen.clear()

    def __call__(self, tensor: Tensor, *args: Hashable) -> object:
        """``function(tensor, *args)``; the graph is chosen by the tensor's shape, ``args`` and autocast's state."""
        key = (tuple(tensor.shape), tensor.dtype, torch.is_autocast_enabled('cuda'), torch.get_autocast_dtype('cuda'),
               args)
        if key not in self._graphs:
            # the first call with a key runs as it is: videos of a size met once are not worth a capture
            if key not in self._seen:
                self._seen.add(key)
                return self.function(tensor, *args)
            self._graphs[key] = self._capture(tensor, args)
            if len(self._graphs) > self.max_graphs:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        graph, static_input, output = self._graphs[key]
        static_input.copy_(tensor, non_blocking=True)
        graph.replay()
        return output

    def _capture(self, tensor: Tensor, args: tuple) -> tuple[torch.cuda.CUDAGraph, Tensor, object]:
        static_input = tensor.clone()

        def run() -> object:
            # autocast's cache of cast weights would outlive the graph's memory
            with torch.autocast('cuda', torch.get_autocast_dtype('cuda'), torch.is_autocast_enabled('cuda'),
                                cache_enabled=False):
                return self.function(static_input, *args)

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = run()
        return graph, static_input, output
