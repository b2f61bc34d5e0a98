"""SwinFPN: strides, pixel shuffle in closed form, gradients of all parameters."""
import pytest
import torch

from mmdet.errors import UserError
from mmdet.models.necks.swin_fpn import PatchExpanding, SwinFPN

SMALL = dict(in_channels=[8, 16, 32, 64], out_channels=12, num_heads=(4, 2, 1), depths=(2, 1, 1))


@pytest.mark.parametrize('height, width', [(128, 256), (96, 160)])
def test_strides_are_those_of_the_head(height, width):
    feats = [torch.randn(2, 8 * 2 ** i, height // (4 * 2 ** i), width // (4 * 2 ** i)) for i in range(4)]
    maps = SwinFPN(**SMALL)(feats)
    assert [tuple(m.shape) for m in maps] == [(2, 12, -(-height // s), -(-width // s)) for s in (8, 16, 32, 64, 128)]


def test_expanding_takes_channels_modulo_four():
    layer = PatchExpanding(8)
    layer.norm = torch.nn.Identity()
    layer.expansion = torch.nn.Identity()
    x = torch.arange(8.).reshape(1, 1, 1, 8)
    # channel 4c + 2i + j goes to channel c of row i, column j
    assert torch.equal(layer(x)[0, :, :, 0], torch.tensor([[0., 1.], [2., 3.]]))
    assert torch.equal(layer(x)[0, :, :, 1], torch.tensor([[4., 5.], [6., 7.]]))


def test_odd_maps_and_gradients():
    """A 5x7 map is expanded and resized to 10x13; all parameters and used inputs have gradients."""
    torch.manual_seed(0)
    neck = SwinFPN(**SMALL)
    shapes = ((8, 40, 52), (16, 20, 26), (32, 10, 13), (64, 5, 7))
    feats = [torch.randn(1, *shape, requires_grad=True) for shape in shapes]
    maps = neck(feats)
    assert [tuple(m.shape[-2:]) for m in maps] == [(20, 26), (10, 13), (5, 7), (3, 4), (2, 2)]
    sum(m.square().mean() for m in maps).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in neck.parameters())
    assert feats[0].grad is None and all(feat.grad.abs().sum() > 0 for feat in feats[1:])


@pytest.mark.parametrize('wrong', [dict(start_level=0), dict(num_heads=(4, 2)), dict(in_channels=[8, 16, 32, 48]),
                                   dict(num_heads=(5, 2, 1))])
def test_wrong_arguments(wrong):
    with pytest.raises(UserError, match='SwinFPN'):
        SwinFPN(**(SMALL | wrong))
