"""Training passes of fixed-shape functions as CUDA graphs; called by the one-stage detectors and their heads.

A small network's training step waits for the launches of some two thousand kernels. Here a function's forward pass is
one launch and its backward pass another.
"""
from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet.errors import UserError


def call(method: Callable[..., tuple[Tensor, ...]], *tensors: Tensor,
         static: tuple[Hashable, ...] = ()) -> tuple[Tensor, ...]:
    """What :meth:`TrainingGraphs.run` does, without graphs."""
    return method(*static, *tensors)


class TrainingGraphs:
    """Runs fixed-shape methods of modules; those met often with the same shapes as two CUDA graphs, one for each pass.

    A method must take and return tensors only (besides ``static`` arguments), must have fixed shapes, must not look at
    the device, and must write to nothing that existed before the call. The trainable parameters of its module get their
    gradients through autograd, so hooks of ``DistributedDataParallel`` fire and gradients may be added up. Weights may
    change in place between calls; graphs of weights that moved to another address are dropped. Random numbers differ
    from call to call as they should.

    The backward pass of a call must come before the next call of the same method: activations of all its shapes share
    one pool of memory. Methods are told apart by their names, so one object serves one module of a class. Copies and
    pickles of an object hold no graph.

    Args:
        max_graphs: graphs a method may have; further shapes run as they are.
        first_calls: calls with a key that run as they are: shapes that are rare are not worth a capture.
    """

    def __init__(self, max_graphs: int = 8, first_calls: int = 2) -> None:
        self.max_graphs, self.first_calls = max_graphs, first_calls
        self._methods: dict[str, _Method] = {}

    def __reduce__(self) -> tuple:
        return type(self), (self.max_graphs, self.first_calls)

    def run(self, method: Callable[..., tuple[Tensor, ...]], *tensors: Tensor,
            static: tuple[Hashable, ...] = ()) -> tuple[Tensor, ...]:
        """``method(*static, *tensors)``.

        Args:
            method: bound to an ``nn.Module``; see the class for what it may do.
            tensors: on one GPU. Shapes, types and whether a gradient is wanted choose the graph.
            static: other arguments, which choose the graph, too.

        Raises:
            UserError: at the capture, if the module has batch norms that learn statistics.
            RuntimeError: in the backward pass, if the method was called again before it.
        """
        state = self._methods.setdefault(method.__qualname__, _Method())
        key = (static, method.__self__.training, torch.is_autocast_enabled('cuda'), torch.get_autocast_dtype('cuda'),
               *((tensor.shape, tensor.dtype, tensor.requires_grad) for tensor in tensors))
        graph = state.graphs.get(key)
        if graph is not None and not graph.fits():
            state.graphs.clear()
            graph = None
        if graph is None:
            calls = state.calls[key] = state.calls.get(key, 0) + 1
            if calls <= self.first_calls or len(state.graphs) >= self.max_graphs or not torch.is_grad_enabled():
                return method(*static, *tensors)
            with torch.cuda.device(tensors[0].device):
                graph = state.graphs[key] = _capture(state, method, static, tensors)
        return _Replay.apply(graph, *tensors, *graph.parameters)


@dataclass
class _Method:
    """What the graphs of one method share."""

    graphs: dict[Hashable, _Graph] = field(default_factory=dict)
    calls: dict[Hashable, int] = field(default_factory=dict)
    pool: Any = field(default_factory=torch.cuda.graph_pool_handle)
    turn: int = 0  # forward passes so far


@dataclass
class _Graph:
    """Both passes of a method for one key, and the tensors at fixed addresses that they read and write."""

    method: _Method
    forward: torch.cuda.CUDAGraph
    backward: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    outputs: tuple[Tensor, ...]
    output_grads: list[Tensor | None]  # None: an output without gradient
    input_grads: list[Tensor | None]
    parameters: list[nn.Parameter]  # those that get a gradient
    parameter_grads: list[Tensor]
    read: list[tuple[Tensor, int, bool]]  # all parameters and buffers, their addresses, whether they learn

    def fits(self) -> bool:
        """Whether the module's weights are where they were."""
        return all(tensor.data_ptr() == address and tensor.requires_grad is learns
                   for tensor, address, learns in self.read)


class _Replay(torch.autograd.Function):
    """A node of the autograd graph whose two passes are replayed."""

    @staticmethod
    def forward(ctx: Any, graph: _Graph, *tensors: Tensor) -> tuple[Tensor, ...]:
        torch._foreach_copy_(graph.inputs, tensors[:len(graph.inputs)], non_blocking=True)
        graph.forward.replay()
        graph.method.turn += 1
        ctx.graph, ctx.turn = graph, graph.method.turn
        outputs = tuple(output.detach() for output in graph.outputs)
        ctx.mark_non_differentiable(*(output for output, grad in zip(outputs, graph.output_grads) if grad is None))
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        graph = ctx.graph
        if ctx.turn != graph.method.turn:
            raise RuntimeError('A graphed method was called again before the backward pass of its last call, which '
                               'overwrote its activations')
        wanted = [(mine, grad) for mine, grad in zip(graph.output_grads, grads) if mine is not None]
        torch._foreach_copy_([mine for mine, _ in wanted], [grad for _, grad in wanted], non_blocking=True)
        graph.backward.replay()
        # parameters may keep what they are given; the next replay must not write into it
        copies = torch._foreach_mul(graph.parameter_grads, 1.0) if graph.parameter_grads else ()
        return None, *(grad if grad is None else grad.detach() for grad in graph.input_grads), *copies


class _Call(nn.Module):
    """A method as a module of its own, so that its weights can be replaced for a call."""

    def __init__(self, owner: nn.Module, method: Callable[..., tuple[Tensor, ...]], static: tuple) -> None:
        super().__init__()
        self.owner, self.method, self.static = owner, method, static

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return self.method(self.owner, *self.static, *tensors)


def _capture(state: _Method, method: Callable[..., tuple[Tensor, ...]], static: tuple,
             tensors: Sequence[Tensor]) -> _Graph:
    """Records both passes of a call with these shapes; the values of ``tensors`` do not matter."""
    owner: nn.Module = method.__self__
    if any(isinstance(module, _BatchNorm) and module.training for module in owner.modules()):
        raise UserError(f'graph_training: {type(owner).__name__} has batch norms that learn statistics, which a graph '
                        'cannot; set backbone.norm_eval=True or graph_training=False')
    call = _Call(owner, method.__func__, static)
    named = {f'owner.{name}': parameter for name, parameter in owner.named_parameters() if parameter.requires_grad}
    # aliases of the weights: the weights' own autograd nodes belong to other streams, and to hooks of DDP
    leaves = {name: parameter.detach().requires_grad_() for name, parameter in named.items()}
    inputs = [tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in tensors]
    sources = [tensor for tensor in inputs if tensor.requires_grad] + list(leaves.values())

    def run() -> tuple[Tensor, ...]:
        # autocast's cache of cast weights would outlive the graph's memory
        with torch.autocast('cuda', torch.get_autocast_dtype('cuda'), torch.is_autocast_enabled('cuda'),
                            cache_enabled=False):
            return functional_call(call, leaves, tuple(inputs))

    def differentiate(outputs: Sequence[Tensor], output_grads: Sequence[Tensor | None]) -> list[Tensor | None]:
        pairs = [(output, grad) for output, grad in zip(outputs, output_grads) if grad is not None]
        if not pairs or not sources:
            return [None] * len(sources)
        differentiable, into = zip(*pairs)
        with torch.autocast('cuda', enabled=False):  # the caller's is on, and backward passes take their tensors' types
            grads = torch.autograd.grad(differentiable, sources, into, allow_unused=True)
        return [_laid_out_as(grad, source) for grad, source in zip(grads, sources)]

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.random.fork_rng([torch.cuda.current_device()]), torch.cuda.stream(stream):
        for _ in range(2):
            outputs = run()
            output_grads = [torch.zeros_like(output) if output.requires_grad else None for output in outputs]
            differentiate(outputs, output_grads)
            del outputs
    torch.cuda.current_stream().wait_stream(stream)

    forward, backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
    # data loaders' threads may go on with their own calls
    options = dict(pool=state.pool, stream=stream, capture_error_mode='thread_local')
    with torch.cuda.graph(forward, **options):
        outputs = run()
    with torch.cuda.graph(backward, **options):
        grads = differentiate(outputs, output_grads)
    count = sum(tensor.requires_grad for tensor in inputs)
    of_inputs, of_parameters = iter(grads[:count]), grads[count:]
    used = [(parameter, grad) for parameter, grad in zip(named.values(), of_parameters) if grad is not None]
    return _Graph(
        state, forward, backward, [tensor.detach() for tensor in inputs],
        tuple(output.detach() for output in outputs), output_grads,
        [next(of_inputs) if tensor.requires_grad else None for tensor in inputs],
        [parameter for parameter, _ in used], [grad for _, grad in used],
        [(tensor, tensor.data_ptr(), tensor.requires_grad) for tensor in (*owner.parameters(), *owner.buffers())])


def _laid_out_as(grad: Tensor | None, tensor: Tensor) -> Tensor | None:
    """With the tensor's strides: autograd would copy each other gradient at every step."""
    if grad is None or grad.stride() == tensor.stride():
        return grad
    return torch.empty_like(tensor).copy_(grad)
