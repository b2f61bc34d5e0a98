"""Results of CUDA graphs equal plain calls, in testing and training; on the CPU, operators are recorded instead."""
import copy
import gc
import pickle
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmdet.engine.hooks import EMAHook
from mmdet.errors import UserError
from mmdet.models.cuda_graphs import InferenceGraphs, TrainingGraphs
from mmdet.models.memory import cnp_memory
from mmdet.ops.device import call_outside_graphs, is_capturing
from mmdet.registry import MODELS
from tests.helpers.dense import build_sipmask
from tests.helpers.models import build_memcnp, memcnp_config
from tools.analysis_tools.measures.synthetic import synthetic_clips

pytestmark = pytest.mark.usefixtures('recorded_graphs')


class Layer(nn.Module):
    """Counts the calls of its Python code."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.unused = nn.Linear(3, 2), nn.Linear(1, 1)
        self.calls = 0

    def forward(self, x: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        return self.linear(x).tanh() * other, (x > 0).sum()

    def scaled(self, factor: float, x: Tensor) -> tuple[Tensor, ...]:
        return (self.linear(x) * factor,)


def test_gradients_are_those_of_autograd_and_add_up(device):
    layer, graphs = Layer().to(device), TrainingGraphs(first_calls=1)
    plain = copy.deepcopy(layer)
    for step in range(4):
        x, other = torch.randn(5, 3, device=device, requires_grad=True), torch.randn(5, 2, device=device)
        mine = x.detach().clone().requires_grad_()
        (out, count), (expected, expected_count) = graphs.run(layer.forward, mine, other), plain(x, other)
        assert torch.allclose(out, expected, atol=1e-6) and count == expected_count and not count.requires_grad
        (out * 2).sum().backward()
        (expected * 2).sum().backward()
        assert torch.allclose(mine.grad, x.grad, atol=1e-6)
        for parameter, wanted in zip(layer.linear.parameters(), plain.linear.parameters()):
            assert torch.allclose(parameter.grad, wanted.grad, atol=1e-5)
            if step == 2:  # two steps' gradients are added up, then the weights change
                with torch.no_grad():
                    for weight in (parameter, wanted):
                        weight.sub_(weight.grad)
                        weight.grad = None
        assert layer.unused.weight.grad is None
    assert layer.calls == 1 + 2 + 1  # plain, two to warm up, captured


def test_arguments_other_than_tensors_are_part_of_the_key(device):
    layer, graphs = Layer().to(device), TrainingGraphs(first_calls=0)
    x = torch.ones(1, 3, device=device)
    once, twice = (graphs.run(layer.scaled, factor, x)[0] for factor in (1.0, 2.0))
    assert torch.allclose(2 * once, twice)


def test_weights_that_moved_and_too_many_shapes(device):
    layer, graphs = Layer().to(device), TrainingGraphs(max_graphs=2, first_calls=0)
    for rows in (1, 2, 3, 3):
        graphs.run(layer.forward, torch.ones(rows, 3, device=device), torch.ones(rows, 2, device=device))
    assert layer.calls == 2 * 3 + 2
    layer.linear.weight.data = torch.zeros_like(layer.linear.weight)
    layer.linear.bias.data = torch.ones_like(layer.linear.bias)
    out, _ = graphs.run(layer.forward, torch.ones(1, 3, device=device), torch.ones(1, 2, device=device))
    assert torch.allclose(out, torch.ones_like(out).tanh())
    layer.requires_grad_(False)
    frozen, _ = graphs.run(layer.forward, torch.ones(1, 3, device=device), torch.ones(1, 2, device=device))
    assert not frozen.requires_grad


def test_garbage_is_not_collected_during_a_capture(device):
    """Garbage may contain graphs, and destroying one invalidates a capture."""
    collecting = []

    def double(x: Tensor) -> Tensor:
        collecting.append(gc.isenabled())
        return 2 * x

    graphs = InferenceGraphs()
    for _ in range(3):
        graphs.run(double, torch.ones(2, device=device))
    assert collecting == [True, True, False] and gc.isenabled()  # as it is, warm-up, capture


def test_a_call_before_the_backward_pass_of_the_last_is_an_error(device):
    layer, graphs = Layer().to(device), TrainingGraphs(first_calls=0)
    first, _ = graphs.run(layer.forward, torch.ones(1, 3, device=device), torch.ones(1, 2, device=device))
    graphs.run(layer.forward, torch.ones(1, 3, device=device), torch.ones(1, 2, device=device))
    with pytest.raises(RuntimeError, match='before the backward pass'):
        first.sum().backward()


def test_copies_hold_no_graphs(device):
    graphs = TrainingGraphs(max_graphs=3, first_calls=0)
    graphs.run(Layer().to(device).forward, torch.ones(1, 3, device=device), torch.ones(1, 2, device=device))
    for twin in (copy.deepcopy(graphs), pickle.loads(pickle.dumps(graphs))):
        assert not twin._methods and twin.max_graphs == 3


def learning(norm: nn.Module) -> nn.Module:
    class Net(nn.Sequential):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return (super().forward(x),)
    return Net(nn.Conv2d(3, 4, 1), norm)


def test_batch_norms_that_update_statistics_are_a_user_error(device):
    net = learning(nn.BatchNorm2d(4)).to(device)
    with pytest.raises(UserError, match='norm_eval'):
        TrainingGraphs(first_calls=0).run(net.forward, torch.rand(2, 3, 4, 4, device=device))
    net.eval()
    TrainingGraphs(first_calls=0).run(net.forward, torch.rand(2, 3, 4, 4, device=device))


def test_activation_checkpointing_is_a_user_error():
    config = memcnp_config() | dict(data_preprocessor=None, graph_training=True)
    config['backbone']['with_cp'] = True
    with pytest.raises(UserError, match='with_cp'):
        MODELS.build(config)


@pytest.mark.cuda
def test_autocast_is_that_of_a_plain_step():
    """Forward in bfloat16 where a plain step's is, backward in the types of the forward pass."""
    torch.manual_seed(0)
    plain = build_memcnp(embed_dims=32, channels=32, track_jitter=0.0).cuda().train()
    graphed = copy.deepcopy(plain)
    graphed.graph_training, graphed._training_graphs = True, TrainingGraphs(first_calls=0)
    inputs, clips = synthetic_clips(2, 2, (64, 96), num_classes=5, original=(64, 96), device='cuda')
    for model in (plain, graphed):
        with torch.autocast('cuda', torch.bfloat16):
            losses = model(inputs, clips, mode='loss')
        sum(value for name, value in losses.items() if 'loss' in name).backward()
    for (name, parameter), mine in zip(plain.named_parameters(), graphed.parameters()):
        if parameter.grad is not None:
            assert mine.grad.dtype == torch.float32
            assert (mine.grad - parameter.grad).norm() < 0.05 * parameter.grad.norm() + 1e-4, name


ALL_OPTIONS = dict(
    assigner=dict(type='UncertaintyAssigner', max_top_k=5, scale_ranges=[(0, 24), (16, 48), (32, 96), (64, 128)]),
    mask_upsample='subpixel', dice_weight=1.0, loss_weights=dict(loss_seg=2.0))


@pytest.mark.parametrize('head', [
    dict(update_mode='top1'), dict(update_mode='all', **ALL_OPTIONS),
    dict(memory=dict(read_temperature=0.1, decay='counted', init_units='kmeans', per_level=True),
         # not random
         video_memory=dict.fromkeys(('drop_frame', 'drop_object', 'false_object', 'wrong_class', 'box_noise'), 0.0))],
    ids=['top1', 'all, options of the head', 'options of the memory'])
def test_memcnp_is_trained_equally_with_and_without_graphs(device, head):
    """Two sizes with other numbers of objects in turn, three steps of each, the first of each without graph."""
    torch.manual_seed(0)
    plain = build_memcnp(embed_dims=32, channels=32, track_jitter=0.0, **head).to(device).train()
    graphed = copy.deepcopy(plain)
    graphed.graph_training, graphed._training_graphs = True, TrainingGraphs(first_calls=1)
    optimizer = torch.optim.SGD(plain.parameters(), 1e-2, momentum=0.9)
    for step in range(6):
        size, objects = ((64, 96), 2) if step % 2 else ((96, 64), 5)
        inputs, clips = synthetic_clips(2, 2, size, num_objects=objects, num_classes=5, original=size, device=device,
                                        seed=step)
        expected = plain(inputs, clips, mode='loss')
        losses = graphed(inputs, clips, mode='loss')
        assert losses.keys() == expected.keys()
        for name, value in expected.items():
            if name != 'match_acc':  # counts; objects of one cell are equally alike but for rounding
                assert torch.allclose(losses[name], value, rtol=1e-5, atol=1e-5), (step, name)
        for model, values in ((plain, expected), (graphed, losses)):
            model.zero_grad()
            sum(value for name, value in values.items() if 'loss' in name).backward()
        for (name, parameter), mine in zip(plain.named_parameters(), graphed.parameters()):
            assert (parameter.grad is None) == (mine.grad is None), name
            if mine.grad is not None:
                scale = parameter.grad.abs().max()
                assert (mine.grad - parameter.grad).abs().max() <= 1e-5 + 1e-4 * scale, (step, name)
        assert torch.allclose(plain.bbox_head.mem.feat_units.weight, graphed.bbox_head.mem.feat_units.weight, atol=1e-5)
        optimizer.step()
        graphed.load_state_dict(plain.state_dict())  # else rounding grows from step to step
    assert {len(method.graphs) for method in graphed._training_graphs._methods.values()} == {2}


def test_averaged_weights_are_exchanged_between_replayed_steps(device):
    """``EMAHook`` averages what the forward pass writes to the memory, too; its exchange of the weights is in place."""
    torch.manual_seed(0)
    plain = build_memcnp(embed_dims=32, channels=32, track_jitter=0.0).to(device).train()
    graphed = copy.deepcopy(plain)
    graphed.graph_training, graphed._training_graphs = True, TrainingGraphs(first_calls=0)
    hooks = {model: EMAHook(momentum=0.25) for model in (plain, graphed)}
    for model, hook in hooks.items():
        hook.before_run(SimpleNamespace(model=model))
    expected = None
    for step in range(3):
        inputs, clips = synthetic_clips(1, 2, (64, 96), num_classes=5, original=(64, 96), device=device, seed=step)
        losses = {}
        for model, hook in hooks.items():
            units = model.bbox_head.mem.feat_units.weight
            before = units.detach().clone()
            losses[model] = sum(value for name, value in model(inputs, clips, mode='loss').items() if 'loss' in name)
            losses[model].backward()
            model.zero_grad()
            trained = units.detach().clone()
            assert not torch.equal(trained, before)
            hook.after_train_iter(SimpleNamespace(iter=step, epoch=0), step)
            hook.before_val_epoch(None)
            averaged = units.detach().clone()
            hook.after_val_epoch(None)
            assert torch.equal(units, trained)
        assert torch.allclose(losses[plain], losses[graphed], rtol=1e-4)
        expected = trained if expected is None else 0.75 * expected + 0.25 * trained
        assert torch.allclose(averaged, expected, atol=1e-5)
    assert {len(method.graphs) for method in graphed._training_graphs._methods.values()} == {1}


@dataclass
class Pair:
    """A nested argument and result."""

    left: Tensor
    right: list[Tensor | None]
    name: str


class Nested(nn.Module):
    """Takes and returns a dataclass, updates a buffer, and reduces over "processes" in between."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.register_buffer('memory', torch.zeros(2))

    def forward(self, pair: Pair) -> dict[str, Pair | Tensor]:
        total = pair.left.detach().sum(dim=0)
        call_outside_graphs(double, total)
        self.memory.data.add_(total)
        out = self.linear(pair.left) + self.memory
        return dict(out=Pair(out, [pair.right[0], None], pair.name), total=total)


def double(tensor: Tensor) -> None:
    """Stands in for a reduction over two processes; fails within a graph."""
    assert not is_capturing()
    tensor.mul_(2)


def test_dataclasses_calls_between_graphs_and_state_in_place(device):
    """A call outside of graphs splits the graph; a module's state is written once per call, by captures too."""
    net, graphs = Nested().to(device), TrainingGraphs(first_calls=1)
    plain = copy.deepcopy(net)
    for step in range(4):
        pair = Pair(torch.randn(3, 2, device=device), [torch.full((1,), float(step), device=device), None], 'a')
        result, expected = graphs.run(net.forward, pair), plain(pair)
        assert result['out'].name == 'a' and result['out'].right[1] is None
        assert result['out'].right[0].item() == step
        for mine, wanted in ((result['out'].left, expected['out'].left), (result['total'], expected['total']),
                             (net.memory, plain.memory)):
            assert torch.allclose(mine, wanted, atol=1e-5)
        for model, outputs in ((net, result), (plain, expected)):
            model.zero_grad()
            outputs['out'].left.square().sum().backward()
        assert torch.allclose(net.linear.weight.grad, plain.linear.weight.grad, atol=1e-4)
    graph, = graphs._methods['Nested.forward'].graphs.values()
    assert len(graph.forward) == 3  # graph, call, graph
    assert len(graph.backward) == 1


def test_processes_reduce_the_writes_of_the_memory_between_graphs(device, monkeypatch):
    """With several processes all but the reductions of the memory runs as graphs, one reduction a level and step."""
    reduced = []
    monkeypatch.setattr(cnp_memory, 'get_world_size', lambda: 2)
    monkeypatch.setattr(cnp_memory, 'all_reduce', lambda total: reduced.append(total.mul_(2)))
    torch.manual_seed(0)
    plain = build_memcnp(embed_dims=32, channels=32, track_jitter=0.0).to(device).train()
    graphed = copy.deepcopy(plain)
    graphed.graph_training, graphed._training_graphs = True, TrainingGraphs(first_calls=0)
    for step in range(2):
        inputs, clips = synthetic_clips(1, 2, (64, 96), num_classes=5, original=(64, 96), device=device, seed=step)
        losses = graphed(inputs, clips, mode='loss')
        assert len(reduced) == 4
        expected = plain(inputs, clips, mode='loss')
        assert len(reduced) == 8
        reduced.clear()
        assert torch.allclose(losses['loss_cls'], expected['loss_cls'], rtol=1e-4)
        assert torch.allclose(plain.bbox_head.mem.feat_units.weight, graphed.bbox_head.mem.feat_units.weight, atol=1e-5)


def test_a_head_whose_shapes_vary_runs_without_a_graph(device):
    """SipMask's loss leaves out empty slots: only backbone and neck run as graphs; losses and gradients stay."""
    torch.manual_seed(0)
    plain = build_sipmask(embed_dims=32, channels=32, track_jitter=0.0).to(device).train()
    graphed = copy.deepcopy(plain)
    graphed.graph_training, graphed._training_graphs = True, TrainingGraphs(first_calls=0)
    inputs, clips = synthetic_clips(2, 2, (64, 96), num_classes=5, original=(64, 96), device=device)
    results = [model(inputs, clips, mode='loss') for model in (plain, graphed)]
    for name, value in results[0].items():
        assert torch.allclose(results[1][name], value, rtol=1e-4, atol=1e-5), name
    for losses in results:
        sum(value for name, value in losses.items() if 'loss' in name).backward()
    mine, wanted = (model.backbone.blocks[0].attn.qkv.weight.grad for model in (graphed, plain))
    assert torch.allclose(mine, wanted, atol=1e-4)
    assert list(graphed._training_graphs._methods) == ['SingleStageDetector.extract_feat']


@torch.no_grad()
def test_testing_as_a_graph_gives_the_same_detections(device):
    torch.manual_seed(0)
    plain = build_memcnp(embed_dims=32, channels=32, test_cfg=dict(score_thr=0.0)).to(device).eval()
    plain.cuda_graphs = False
    graphed = copy.deepcopy(plain)
    graphed.cuda_graphs = True
    for step in range(3):
        results = []
        for model in (plain, graphed):
            inputs, clips = synthetic_clips(1, 2, (64, 96), num_classes=5, original=(64, 96), device=device, seed=step)
            results.append(model(inputs, clips, mode='predict')[0])
        for mine, wanted in zip(*results):
            mine, wanted = mine.pred_track_instances, wanted.pred_track_instances
            assert torch.allclose(mine.bboxes, wanted.bboxes, atol=1e-3) and len(mine) > 0
            assert mine.instances_id.equal(wanted.instances_id)
    assert len(graphed._graphs._graphs) == 1


@torch.no_grad()
def test_casting_the_weights_drops_the_graphs_that_read_them(device):
    model = build_memcnp(embed_dims=32, channels=32).to(device).eval()
    inputs, clips = synthetic_clips(1, 2, (64, 96), num_classes=5, original=(64, 96), device=device)
    for _ in range(2):  # the second is captured
        model(inputs, clips, mode='predict')
    assert model._graphs._graphs
    model.halve_weights()
    assert not model._graphs._graphs


class Parallel(nn.Module):
    """A graphed layer as a model of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.graphs = nn.Linear(3, 2), TrainingGraphs(first_calls=0)

    def run(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.layer(x),)

    def forward(self, x: Tensor) -> Tensor:
        return self.graphs.run(self.run, x)[0]


def test_processes_share_gradients(device, tmp_path):
    """The hooks of DistributedDataParallel are called for every gradient of a graph, including accumulated ones."""
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/meeting', rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(Parallel().to(device))
        seen = []
        model.register_comm_hook(None, lambda state, bucket: seen.append(bucket.buffer().clone()) or _done(bucket))
        x = torch.randn(4, 3, device=device)
        with model.no_sync():
            model(x).sum().backward()
        assert not seen
        model(x).sum().backward()
        once = torch.autograd.grad(model.module.run(x)[0].sum(), list(model.parameters()))
        for parameter, expected in zip(model.parameters(), once):
            assert torch.allclose(parameter.grad, 2 * expected, atol=1e-5)
        assert sum(buffer.numel() for buffer in seen) == sum(parameter.numel() for parameter in model.parameters())
    finally:
        dist.destroy_process_group()


def _done(bucket: dist.GradBucket) -> torch.futures.Future:
    future = torch.futures.Future()
    future.set_result(bucket.buffer())
    return future
