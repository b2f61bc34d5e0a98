"""Memory of CUDA graphs: shared by the shapes of a method; on the CPU, operators are recorded instead of graphs."""
import gc

import pytest
import torch
from torch import Tensor, nn

from mmdet.models import cuda_graphs
from mmdet.models.cuda_graphs import InferenceGraphs, TrainingGraphs
from tests.helpers.models import build_memcnp
from tools.analysis_tools.measures.synthetic import synthetic_clips

pytestmark = pytest.mark.usefixtures('recorded_graphs')


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.linear(x).tanh(),)


def test_shapes_of_a_method_share_stream_and_memory_until_all_are_freed(device, monkeypatch):
    """Without the same stream, PyTorch would not use the memory of one graph for another."""
    captures = []
    plain_graph = torch.cuda.graph

    def graph(*args, pool, stream, **options):
        captures.append((pool, stream))
        return plain_graph(*args, pool=pool, stream=stream, **options)

    monkeypatch.setattr(torch.cuda, 'graph', graph)
    layer, training, testing = Layer().to(device), TrainingGraphs(first_calls=0), InferenceGraphs()

    def train(rows: int) -> None:
        training.run(layer.forward, torch.ones(rows, 3, device=device))

    def predict(rows: int) -> None:
        for _ in range(2):
            testing.run(torch.neg, torch.ones(rows, device=device))

    train(1)
    train(2)
    predict(1)
    predict(2)
    assert len(captures) == 2 * 2 + 2
    assert captures[0] == captures[1] == captures[2] == captures[3]  # forward and backward passes
    assert captures[4] == captures[5]
    layer.linear.weight.data = layer.linear.weight.data.clone()
    train(1)
    testing.clear()
    predict(1)
    pools = [pool for pool, _ in captures]
    assert len(set(pools)) == 4  # two each: PyTorch releases a pool whose graphs were all freed
    assert len({stream.cuda_stream if device == 'cuda' else id(stream) for _, stream in captures}) == 2


def test_nothing_is_captured_while_little_memory_is_free(device, monkeypatch):
    """One third is enough; the log says once that less was free."""
    said = []
    monkeypatch.setattr(cuda_graphs, 'print_log', lambda message, logger: said.append(message))
    free = 4
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda: (free * 2 ** 30, 12 * 2 ** 30))
    layer, graphs = Layer().to(device), TrainingGraphs(first_calls=0)

    def outputs(rows: int) -> Tensor:
        return graphs.run(layer.forward, torch.ones(rows, 3, device=device))[0]

    outputs(1)
    free = 3
    for rows in (1, 2, 2, 3):
        assert torch.allclose(outputs(rows), layer(torch.ones(rows, 3, device=device))[0])
    assert len(graphs._methods['Layer.forward'].graphs) == 1
    assert said == ['graph_training: 3.0 of 12.0 GiB of GPU memory are free, less than a third; from now on, batches '
                    'of other shapes than before run without CUDA graphs']


class Deep(nn.Module):
    """Activations of 16 × rows × 1024 numbers for one result."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(layer for _ in range(8) for layer in (nn.Linear(1024, 1024), nn.Tanh())))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.layers(x).mean(),)


@pytest.mark.cuda
def test_three_shapes_keep_less_memory_than_one_and_a_half_times_the_largest():
    """The largest comes first; blocks for smaller ones could not be joined for a larger one."""
    def kept(*shapes: int) -> int:
        gc.collect()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved()
        net, graphs = Deep().cuda(), TrainingGraphs(first_calls=0)
        for rows in shapes * 2:
            graphs.run(net.forward, torch.ones(rows, 1024, device='cuda'))[0].backward()
            net.zero_grad()
        torch.cuda.empty_cache()
        assert len(graphs._methods['Deep.forward'].graphs) == len(shapes)
        return torch.cuda.memory_reserved() - before

    assert kept(8192, 7168, 6144) < 1.5 * kept(8192)


@pytest.mark.cuda
def test_training_three_numbers_of_objects_needs_little_more_memory_than_the_largest():
    """Peaks include steps without graphs: one of each shape, and for the largest alone one after its capture, too."""
    def peak(*numbers: int) -> int:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_reserved()
        torch.manual_seed(0)
        model = build_memcnp(embed_dims=32, channels=32, assigner=dict(type='UncertaintyAssigner', top_k=9)).cuda()
        model.train()
        model.graph_training, model._training_graphs = True, TrainingGraphs(first_calls=1)
        for number in [*numbers] * 3:
            step(model, number)
        assert len(model._training_graphs._methods['CNPContrastHead.loss'].graphs) == len(numbers)
        model.graph_training = False
        step(model, numbers[-1])
        return torch.cuda.max_memory_reserved() - before

    def step(model: nn.Module, number: int) -> None:
        inputs, clips = synthetic_clips(4, 2, (352, 640), num_objects=number, num_classes=5, original=(352, 640),
                                        device='cuda')
        sum(value for name, value in model(inputs, clips, mode='loss').items() if 'loss' in name).backward()
        model.zero_grad()

    assert peak(4, 8, 16) < 1.5 * peak(16)


def test_only_the_graphs_used_last_are_kept(device):
    graphs, calls = InferenceGraphs(max_graphs=2), []

    def increase(x: Tensor) -> Tensor:
        calls.append(len(x))
        return x + 1

    for rows in (1, 1, 2, 2, 1, 3, 3, 1, 2, 2):
        assert graphs.run(increase, torch.zeros(rows, device=device)).tolist() == [1.0] * rows
    # each size: once as it is, then warm-up and capture; size 2, unused for longest, was dropped and begins anew
    assert calls == [1, 1, 1, 2, 2, 2, 3, 3, 3, 2, 2, 2]
