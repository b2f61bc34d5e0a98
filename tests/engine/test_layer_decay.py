"""Learning rates by depth and by part: closed forms, and those of VidEoMT's authors."""
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn

from mmdet.engine import WarmupPolyLR
from mmdet.errors import UserError
from mmdet.models.backbones import ViT
from mmdet.models.detectors.videomt_weights import videomt_names
from tests.helpers.golden import golden_npz
from tests.helpers.videomt import golden_videomt


@pytest.fixture(autouse=True, scope='module')
def scope():
    init_default_scope('mmdet')


class Tower(nn.Module):
    """Three layers, of which the first is the deepest; the last is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
        self.layers[2].requires_grad_(False)

    def lr_depth(self, name: str) -> int:
        return 2 - int(name.split('.')[1])


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tower, self.head = Tower(), nn.LayerNorm(2)


def optimizer_of(model: nn.Module, lr: float = 1e-4, **paramwise) -> torch.optim.Optimizer:
    return build_optim_wrapper(model, dict(
        type='OptimWrapper', constructor='LayerDecayConstructor', paramwise_cfg=paramwise,
        optimizer=dict(type='AdamW', lr=lr, weight_decay=0.05))).optimizer


def test_rates_fall_with_depth():
    model = Model()
    groups = optimizer_of(model, lr=1.0, layer_decay_rate=0.5).param_groups
    assert [(group['part'], group['lr'], group['weight_decay']) for group in groups] == [
        ('other', 1.0, 0.05), ('decayed', 0.5, 0.05), ('decayed', 0.25, 0.05)]
    assert groups[0]['params'] == list(model.head.parameters())
    assert groups[2]['params'] == list(model.tower.layers[0].parameters())


def test_rates_of_a_plain_vit_fall_from_the_last_block_to_the_patches():
    vit = ViT(embed_dims=8, depth=4, num_heads=2)
    depths = {name: vit.lr_depth(name) for name, parameter in vit.named_parameters() if parameter.requires_grad}
    assert depths['patch_embed.proj.weight'] == depths['cls_token'] == depths['blocks.0.attn.qkv.weight'] == 3
    assert depths['blocks.1.mlp.fc1.bias'] == 2 and depths['blocks.3.norm1.weight'] == 0
    groups = optimizer_of(nn.ModuleDict(dict(backbone=vit)), lr=1.0, layer_decay_rate=0.5).param_groups
    assert [group['lr'] for group in groups] == [1, 0.5, 0.25, 0.125]


@pytest.mark.parametrize('paramwise', [
    {}, dict(layer_decay_rate=0), dict(layer_decay_rate=True), dict(layer_decay_rate=0.5, norm_decay_mult=0)])
def test_wrong_options(paramwise):
    with pytest.raises(UserError, match='layer_decay_rate'):
        optimizer_of(Model(), **paramwise)


def test_a_model_without_blocks():
    with pytest.raises(UserError, match="'LayerDecayConstructor': Linear has no blocks with a depth"):
        optimizer_of(nn.Linear(2, 2), layer_decay_rate=0.5)
    with pytest.raises(UserError, match=r'the backbone Conv2d has no blocks with a depth .*remove constructor'):
        optimizer_of(nn.ModuleDict(dict(backbone=nn.Conv2d(2, 2, 1))), layer_decay_rate=0.5)


@pytest.mark.parametrize('step, factor', [(0, 0), (2, 0), (3, 0.25), (6, 1), (8, (1 / 3) ** 0.5), (9, 0)],
                         ids=['delay', 'delay ends', 'warm-up', 'full', 'decay', 'end'])
def test_curve(step, factor):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    curve = WarmupPolyLR(optimizer, end=9, warmup=4, delay=2, power=0.5)
    assert curve.factor(step) == pytest.approx(factor)


def test_a_part_has_its_own_curve_and_keeps_its_last_rate():
    optimizer = optimizer_of(Model(), lr=1.0, layer_decay_rate=0.5)
    curves = [WarmupPolyLR(optimizer, end=4, warmup=1, power=1, part='other'),
              WarmupPolyLR(optimizer, end=4, warmup=1, delay=1, power=1, part='decayed')]
    rates = []
    for _ in range(6):
        rates.append([group['lr'] for group in optimizer.param_groups])
        optimizer.step()
        for curve in curves:
            curve.step()
    assert [row[0] for row in rates] == pytest.approx([0, 1, 2 / 3, 1 / 3, 1 / 3, 1 / 3])
    assert [row[1] for row in rates] == pytest.approx([0, 0, 0.5, 0.25, 0.25, 0.25])


def test_wrong_curves():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(UserError, match='end=10'):
        WarmupPolyLR(optimizer, end=10, warmup=5, delay=5)
    with pytest.raises(UserError, match="part='decayed'"):
        WarmupPolyLR(optimizer, end=10, warmup=5, part='decayed')
    with pytest.raises(UserError, match='iterations'):
        WarmupPolyLR(optimizer, end=10, warmup=5, by_epoch=True)


def test_the_authors_rates():
    golden = golden_npz('videomt_loss.npz')
    expected = dict(zip(golden['lr_names'].tolist(), golden['lr_values'].tolist()))
    model = golden_videomt()
    optimizer = optimizer_of(model, layer_decay_rate=0.6)
    curves = [WarmupPolyLR(optimizer, end=40000, warmup=500, part='other'),
              WarmupPolyLR(optimizer, end=40000, warmup=1000, delay=500, part='decayed')]
    group_of = {id(parameter): number for number, group in enumerate(optimizer.param_groups)
                for parameter in group['params']}
    parameters = dict(model.named_parameters())
    compared = 0
    for column, step in enumerate(golden['lr_steps'].tolist()):
        for curve in curves:
            curve.last_step = step
        # as mmengine's step() does, the second from what the first has set
        for curve in curves:
            for group, rate in zip(optimizer.param_groups, curve._get_value()):
                group['lr'] = rate
        for own, _, others in videomt_names(depth=5):
            rate = optimizer.param_groups[group_of[id(parameters[own])]]['lr']
            for name in others:
                assert rate == pytest.approx(expected[name][column], rel=1e-5, abs=1e-12), (name, step)
                compared += 1
    assert compared == len(expected) * 8
