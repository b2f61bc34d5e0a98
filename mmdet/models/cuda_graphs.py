"""CUDA graphs for testing and training, wrapped around methods with fixed shapes.

Called by the detectors. At a small batch size, the time of a network is that of launching about a thousand kernels; a
graph launches them at once. Captured code must have fixed shapes and must not synchronise with the GPU
(:func:`mmdet.ops.device.is_capturing`). Arguments and results may be any nesting of tuples, lists, dicts and
dataclasses: they are flattened to tensors here; all other values in them are part of the key of a graph.
"""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import Any, NamedTuple

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import TreeSpec, register_dataclass, tree_flatten, tree_unflatten

from mmdet.errors import UserError
from mmdet.models.graph_capture import Recorder, SharedMemory, warm_up

_DEVICES = ('cuda',)  # tests add the CPU, where operators are recorded instead of graphs
_FREE_SHARE = 1 / 3  # of the GPU's memory: with less, no further graph is captured for training


@dataclass(frozen=True)
class _Structure:
    """Structure of a nested value without its tensors; part of the key of a graph, and used to rebuild its results."""

    spec: TreeSpec
    others: tuple[Hashable, ...]  # other leaves than tensors, by position; ``_TENSOR`` elsewhere

    @classmethod
    def of(cls, value: object) -> tuple[list[Tensor], _Structure]:
        """Split a nested value into its tensors and its structure."""
        leaves, spec = tree_flatten(value)
        unknown = {type(leaf) for leaf in leaves if is_dataclass(leaf)}
        if unknown:
            for kind in unknown:
                register_dataclass(kind)
            return cls.of(value)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        return tensors, cls(spec, tuple(_TENSOR if isinstance(leaf, Tensor) else leaf for leaf in leaves))

    def fill(self, tensors: Sequence[Tensor]) -> Any:
        """Rebuild the nested value with other tensors, the inverse of :meth:`of`."""
        remaining = iter(tensors)
        return tree_unflatten([next(remaining) if leaf is _TENSOR else leaf for leaf in self.others], self.spec)


_TENSOR = object()


def _autocast_state() -> tuple[bool, torch.dtype]:
    return torch.is_autocast_enabled('cuda'), torch.get_autocast_dtype('cuda')


def _without_autocast_cache() -> torch.autocast:
    """Return the current autocast state without its weight cache, whose entries would be in the graph's memory."""
    enabled, dtype = _autocast_state()
    return torch.autocast('cuda', dtype, enabled, cache_enabled=False)


# ---------------------------------------------------------------------------------------------------------------------
# Testing


class _InferenceGraph(NamedTuple):
    """A captured function, and the tensors at fixed addresses that it uses."""

    steps: list[Callable[[], object]]
    inputs: list[Tensor]
    outputs: list[Tensor]
    structure: _Structure  # of the outputs


class InferenceGraphs:
    """Run fixed-shape functions without gradients; from the second call with the same shapes on as a CUDA graph.

    The results of a graph are copied right after its replay, because the next one, which may be launched before they
    are used, overwrites them. For the same reason the graphs share their memory, and one object must be used on one
    stream. Copies and pickles of an object contain no graphs, which depend on the addresses of the captured tensors.

    Args:
        max_graphs: maximum number of graphs; the least recently used one is freed first, its memory for the others.
    """

    def __init__(self, max_graphs: int = 8) -> None:
        self.max_graphs = max_graphs
        self._graphs: OrderedDict[Hashable, _InferenceGraph] = OrderedDict()
        self._memory = SharedMemory()
        self._seen: set[Hashable] = set()

    def __reduce__(self) -> tuple:
        return type(self), (self.max_graphs,)

    @staticmethod
    def available(device: torch.device) -> bool:
        """Return whether :meth:`run` uses graphs on this device, instead of calling the function."""
        return device.type in _DEVICES

    def clear(self) -> None:
        """Free all graphs; necessary after a tensor that they read was replaced."""
        self._graphs.clear()
        self._memory.renew()
        self._seen.clear()

    def run(self, function: Callable[..., Any], *args: object) -> Any:
        """Return ``function(*args)``.

        The key of a graph consists of the function's name, the tensors' shapes and dtypes, all other arguments, and the
        autocast state.
        """
        tensors, structure = _Structure.of(args)
        if not self.available(tensors[0].device):
            return function(*args)
        key = (function.__qualname__, structure, _autocast_state(),
               *((tensor.shape, tensor.dtype) for tensor in tensors))
        if key not in self._graphs:
            # the first call with a key, also after its graph was freed, runs without one: a capture does not pay for a
            # size that occurs once
            if key not in self._seen:
                self._seen.add(key)
                return function(*args)
            with torch.cuda.device(tensors[0].device):
                self._graphs[key] = self._capture(function, structure, tensors)
            if len(self._graphs) > self.max_graphs:
                freed, _ = self._graphs.popitem(last=False)
                self._seen.discard(freed)
        self._graphs.move_to_end(key)
        graph = self._graphs[key]
        torch._foreach_copy_(graph.inputs, tensors, non_blocking=True)
        for step in graph.steps:
            step()
        return graph.structure.fill([output.clone() for output in graph.outputs])

    def _capture(self, function: Callable[..., object], structure: _Structure,
                 tensors: Sequence[Tensor]) -> _InferenceGraph:
        static_inputs = [tensor.clone() for tensor in tensors]

        def run() -> object:
            with _without_autocast_cache():
                return function(*structure.fill(static_inputs))

        options = self._memory.options()
        warm_up(run, 1, options['stream'])
        recorder = Recorder(**options)
        with recorder.record():
            output = run()
        return _InferenceGraph(recorder.steps, static_inputs, *_Structure.of(output))


# ---------------------------------------------------------------------------------------------------------------------
# Training


def uses_training_graphs(module: nn.Module, choice: bool | str) -> bool:
    """Return whether a module is trained as CUDA graphs.

    Args:
        module: in training mode.
        choice: True, False, or ``'auto'``: unless a part has ``with_cp`` or updates the statistics of a batch norm,
            with which graphs are not possible.
    """
    if choice != 'auto':
        return bool(choice)
    return not any(getattr(part, 'with_cp', False) or (isinstance(part, _BatchNorm) and part.training)
                   for part in module.modules())


class TrainingGraphs:
    """Run fixed-shape methods of modules; for shapes that occur often, as CUDA graphs of forward and backward pass.

    Trainable parameters of a method's module receive gradients through autograd, so that hooks of
    ``DistributedDataParallel`` are called and gradients can be accumulated. The method may modify parameters and
    buffers of its module in place, but no other tensor that existed before the call. Weights may change in place
    between calls; graphs of weights that moved to another address are freed. Random numbers differ between calls.

    The backward pass of a call must precede the next call of the same method, since its shapes share their memory.
    Outputs and gradients of inputs are valid until that call, too; losses that are logged later must be copied, as
    ``parse_losses`` of mmengine does by ``mean``. Different methods share no memory, since the backbone's activations
    must survive both passes of the head.

    Shapes that are rare, or occur first when less than a third of the GPU's memory is free, run without a graph: graphs
    keep their memory, and steps without graphs need theirs in addition.

    Methods are distinguished by their qualified names, so use one object per module. Copies and pickles of an object
    contain no graphs.

    Args:
        max_graphs: maximum number of graphs of a method; further shapes run without a graph.
        first_calls: number of calls with a key that run without a graph, since a capture does not pay for rare shapes.
    """

    def __init__(self, max_graphs: int = 8, first_calls: int = 2) -> None:
        self.max_graphs, self.first_calls = max_graphs, first_calls
        self._methods: dict[str, _Method] = {}
        self._full = False  # too little memory was free for a capture

    def __reduce__(self) -> tuple:
        return type(self), (self.max_graphs, self.first_calls)

    def run(self, method: Callable[..., Any], *args: object) -> Any:
        """Return ``method(*args)``.

        Args:
            method: method of an ``nn.Module``; see the class for restrictions.
            args: tensors on one GPU, whose shapes, dtypes and ``requires_grad`` are part of the key of a graph, and
                other values, which are part of it, too. On the CPU, the method runs without a graph.

        Raises:
            UserError: during the capture, if the module has batch norms that update their statistics.
            RuntimeError: in the backward pass, if the method was called again before it.
        """
        tensors, structure = _Structure.of(args)
        if tensors[0].device.type not in _DEVICES or not torch.is_grad_enabled():
            return method(*args)
        owner: nn.Module = method.__self__  # type: ignore[attr-defined]
        state = self._methods.setdefault(method.__qualname__, _Method())
        key = (structure, owner.training, _autocast_state(),
               *((tensor.shape, tensor.dtype, tensor.requires_grad) for tensor in tensors))
        graph = state.graphs.get(key)
        if graph is not None and not graph.fits():
            state.graphs.clear()
            state.memory.renew()
            graph = None
        if graph is None:
            calls = state.calls[key] = state.calls.get(key, 0) + 1
            if calls <= self.first_calls or len(state.graphs) >= self.max_graphs or self._full:
                return method(*args)
            with torch.cuda.device(tensors[0].device):
                if not self._has_room():
                    return method(*args)
                graph = state.graphs[key] = _capture(state, owner, method, structure, tensors)
        return graph.structure.fill(_Replay.apply(graph, *tensors, *graph.parameters))

    def _has_room(self) -> bool:
        """Return whether enough memory of the current GPU is free for a capture; if not, no other is tried."""
        torch.cuda.empty_cache()  # as a capture does; the memory that PyTorch has cached does not count as free
        free, total = torch.cuda.mem_get_info()
        self._full = free < _FREE_SHARE * total
        if self._full:
            print_log(f'graph_training: {free / 2 ** 30:.1f} of {total / 2 ** 30:.1f} GiB of GPU memory are free, less '
                      'than a third; from now on, batches of other shapes than before run without CUDA graphs',
                      logger='current')
        return not self._full


@dataclass
class _Method:
    """State shared by the graphs of one method."""

    graphs: dict[Hashable, _TrainingGraph] = field(default_factory=dict)
    calls: dict[Hashable, int] = field(default_factory=dict)
    memory: SharedMemory = field(default_factory=SharedMemory)
    turn: int = 0  # number of forward passes so far


@dataclass
class _TrainingGraph:
    """Forward and backward pass of a method for one key, and the tensors at fixed addresses that they use."""

    method: _Method
    forward: list[Callable[[], object]]
    backward: list[Callable[[], object]]
    inputs: list[Tensor]
    outputs: tuple[Tensor, ...]
    structure: _Structure  # of the outputs
    output_grads: list[Tensor | None]  # None for an output without gradient
    input_grads: list[Tensor | None]
    parameters: list[nn.Parameter]  # parameters that receive a gradient
    parameter_grads: list[Tensor]
    read: list[tuple[Tensor, int, bool]]  # all parameters and buffers, their addresses and ``requires_grad``

    def fits(self) -> bool:
        """Return whether the module's weights still have the addresses of the capture."""
        return all(tensor.data_ptr() == address and tensor.requires_grad is requires_grad
                   for tensor, address, requires_grad in self.read)


class _Replay(torch.autograd.Function):
    """A node of the autograd graph whose forward and backward passes are replayed."""

    @staticmethod
    def forward(ctx: Any, graph: _TrainingGraph, *tensors: Tensor) -> tuple[Tensor, ...]:
        torch._foreach_copy_(graph.inputs, tensors[:len(graph.inputs)], non_blocking=True)
        for step in graph.forward:
            step()
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
            raise RuntimeError('A graphed method was called again before the backward pass of its previous call, whose '
                               'activations were overwritten')
        wanted = [(mine, grad) for mine, grad in zip(graph.output_grads, grads) if mine is not None]
        torch._foreach_copy_([mine for mine, _ in wanted], [grad for _, grad in wanted], non_blocking=True)
        for step in graph.backward:
            step()
        # copies, since parameters may keep these tensors as gradients, which the next replay must not overwrite
        copies = torch._foreach_mul(graph.parameter_grads, 1.0) if graph.parameter_grads else ()
        return None, *(grad if grad is None else grad.detach() for grad in graph.input_grads), *copies


class _Call(nn.Module):
    """A method as a module, so that the weights of its owner can be replaced for a call."""

    def __init__(self, owner: nn.Module, method: Callable[..., Any], structure: _Structure) -> None:
        super().__init__()
        self.owner, self.structure = owner, structure
        self.method = method.__func__  # type: ignore[attr-defined]

    def forward(self, *tensors: Tensor) -> Any:
        return self.method(self.owner, *self.structure.fill(tensors))


def _capture(state: _Method, owner: nn.Module, method: Callable[..., Any], structure: _Structure,
             tensors: Sequence[Tensor]) -> _TrainingGraph:
    """Capture both passes of a call with these shapes; the values of ``tensors`` are irrelevant."""
    if any(isinstance(module, _BatchNorm) and module.training for module in owner.modules()):
        raise UserError(f'graph_training: {type(owner).__name__} has batch norms that update their statistics; this is '
                        'not supported; set backbone.norm_eval=True or graph_training=False')
    call = _Call(owner, method, structure)
    named = {f'owner.{name}': parameter for name, parameter in owner.named_parameters() if parameter.requires_grad}
    # aliases of the weights, since the autograd nodes of the weights belong to other streams and have hooks of DDP
    leaves = {name: parameter.detach().requires_grad_() for name, parameter in named.items()}
    inputs = [tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in tensors]
    sources = [tensor for tensor in inputs if tensor.requires_grad] + list(leaves.values())

    def run() -> tuple[list[Tensor], _Structure]:
        with _without_autocast_cache():
            return _Structure.of(functional_call(call, leaves, tuple(inputs)))

    def differentiate(outputs: Sequence[Tensor], output_grads: Sequence[Tensor | None]) -> list[Tensor | None]:
        pairs = [(output, grad) for output, grad in zip(outputs, output_grads) if grad is not None]
        if not pairs or not sources:
            return [None] * len(sources)
        differentiable, into = zip(*pairs)
        with torch.autocast('cuda', enabled=False):  # as usual for backward passes, which use the dtypes of the forward
            grads = torch.autograd.grad(differentiable, sources, into, allow_unused=True)
        return [_laid_out_as(grad, source) for grad, source in zip(grads, sources)]

    output_grads: list[Tensor | None] = []

    def both_passes() -> None:
        outputs, _ = run()
        output_grads[:] = [torch.zeros_like(output) if output.requires_grad else None for output in outputs]
        differentiate(outputs, output_grads)

    read = [*owner.parameters(), *owner.buffers()]
    values = [tensor.detach().clone() for tensor in read]
    options = state.memory.options()
    with torch.random.fork_rng([torch.cuda.current_device()]):
        warm_up(both_passes, 2, options['stream'])
    forward, backward = Recorder(**options), Recorder(**options)
    with forward.record():
        outputs, output_structure = run()
    with backward.record():
        grads = differentiate(outputs, output_grads)
    with torch.no_grad():  # undo in-place changes of the warm-up, such as writes to a memory; ``data``: no autograd
        torch._foreach_copy_([tensor.data for tensor in read], values)
    count = sum(tensor.requires_grad for tensor in inputs)
    of_inputs, of_parameters = iter(grads[:count]), grads[count:]
    used = [(parameter, grad) for parameter, grad in zip(named.values(), of_parameters) if grad is not None]
    return _TrainingGraph(
        state, forward.steps, backward.steps, [tensor.detach() for tensor in inputs],
        tuple(output.detach() for output in outputs), output_structure, output_grads,
        [next(of_inputs) if tensor.requires_grad else None for tensor in inputs],
        [parameter for parameter, _ in used], [grad for _, grad in used],
        [(tensor, tensor.data_ptr(), tensor.requires_grad) for tensor in read])


def _laid_out_as(grad: Tensor | None, tensor: Tensor) -> Tensor | None:
    """Return the gradient with the strides of its tensor; autograd would otherwise copy it at every step."""
    if grad is None or grad.stride() == tensor.stride():
        return grad
    return torch.empty_like(tensor).copy_(grad)
