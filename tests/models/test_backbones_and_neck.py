"""ViT, ResNet and FPN: shapes, parameter names, frozen parts, closed forms. Golden tests check their outputs."""
import math

import pytest
import torch
from torchvision.models import resnet101

from mmdet.errors import UserError
from mmdet.models.backbones import ResNet, ViT
from mmdet.models.backbones.vit import sincos_position_embedding
from mmdet.models.necks import FPN


def test_position_table_in_closed_form():
    table = sincos_position_embedding(8, (3, 4))
    assert table.shape == (13, 8)
    assert (table[0] == 0).all()  # the class token
    row = table[1 + 2 * 4 + 3]  # y = 2, x = 3
    expected = [f(position * omega) for position in (3, 2) for f in (math.sin, math.cos) for omega in (1.0, 0.01)]
    assert torch.allclose(row, torch.tensor(expected), atol=1e-6)


@pytest.mark.parametrize('depth', [4, 12, 24, 32], ids=['smallest', 'ViT-B', 'ViT-L', 'ViT-H'])
def test_vit_strides_at_any_depth(depth):
    model = ViT(embed_dims=16, depth=depth, num_heads=2).eval()
    with torch.no_grad():
        maps = model(torch.randn(2, 3, 64, 96))
    assert [tuple(x.shape) for x in maps] == [(2, 16, 8, 12), (2, 16, 4, 6), (2, 16, 2, 3)]


def test_vit_outputs_are_those_after_each_quarter_of_the_blocks():
    model = ViT(embed_dims=16, depth=8, num_heads=2).eval()
    for block in model.blocks[6:]:  # make the last quarter the identity
        torch.nn.init.zeros_(block.attn.proj.weight)
        torch.nn.init.zeros_(block.mlp.fc2.weight)
    with torch.no_grad():
        _, third, last = model(torch.randn(1, 3, 64, 64))
    assert torch.allclose(torch.nn.functional.avg_pool2d(third, 2), last, atol=1e-6)


@pytest.mark.parametrize('patch_size', [4, 16])
def test_a_convolutional_stem_gives_the_patches_and_a_map_of_twice_their_resolution(patch_size):
    vit = ViT(embed_dims=64, depth=4, num_heads=2, patch_size=patch_size, stem='conv')
    stem = vit.patch_embed
    patches, skip = stem(torch.zeros(1, 3, 2 * patch_size, 4 * patch_size))
    assert patches.shape == (1, 64, 2, 4) and skip.shape == (1, 64, 4, 8)
    assert [conv.conv.out_channels for conv in stem.convs] == [64 >> shift for shift in
                                                               range(len(stem.convs) - 1, -1, -1)]
    assert [tuple(out.shape[2:]) for out in vit(torch.zeros(1, 3, 2 * patch_size, 4 * patch_size))] == [
        (4, 8), (2, 4), (1, 2)]


def test_the_map_of_the_stem_is_added_to_the_finest_output_alone():
    torch.manual_seed(0)
    vit = ViT(embed_dims=64, depth=4, num_heads=2, stem='conv').eval()
    images = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        before, (_, skip) = vit(images), vit.patch_embed(images)
        vit.patch_embed.skip.bias += 1
        after = vit(images)
        assert torch.allclose(after[0] - before[0], torch.ones_like(skip), atol=1e-5)
        assert torch.equal(after[1], before[1]) and torch.equal(after[2], before[2])
        vit.patch_embed.skip.weight.zero_(), vit.patch_embed.skip.bias.zero_()
        assert torch.allclose(before[0] - vit(images)[0], skip, atol=1e-5)


def test_vit_positions_have_no_gradient():
    assert not ViT(embed_dims=16, depth=4, num_heads=2).pos_embed.requires_grad


@pytest.mark.parametrize(('bad', 'message'), [
    (dict(depth=10), 'ViT depth=10 .*multiple of 4'), (dict(depth=0), 'ViT depth=0 '),
    (dict(embed_dims=90, num_heads=2), 'embed_dims=90.*multiple of 4'),
    (dict(embed_dims=96, num_heads=5), 'num_heads=5.*use values such as 768 and 12'),
    (dict(stem='linear'), "stem='linear' is unknown; use 'patch' or 'conv'"),
    (dict(stem='conv', patch_size=14), 'patch_size=14 must be a power of 2'),
    (dict(stem='conv', embed_dims=96), 'embed_dims=96 a multiple of 64')])
def test_invalid_arguments_of_vit_are_user_errors(bad, message):
    with pytest.raises(UserError, match=message):
        ViT(**bad)


@pytest.mark.parametrize(('style', 'stride_of_first'), [('pytorch', 1), ('caffe', 2)])
def test_resnet_styles(style, stride_of_first):
    block = ResNet(depth=50, style=style).layer2[0]
    assert block.conv1.stride == (stride_of_first, stride_of_first)
    assert block.conv2.stride == (3 - stride_of_first, 3 - stride_of_first)
    assert block.downsample[0].stride == (2, 2)


def test_resnet_has_torchvisions_names():
    theirs = {name for name in resnet101().state_dict() if not name.startswith('fc.')}
    assert set(ResNet(depth=101).state_dict()) == theirs


def test_resnet_freezes_stem_and_first_stage_and_keeps_norms_in_eval():
    model = ResNet(frozen_stages=1).train()
    assert not model.conv1.weight.requires_grad
    assert not any(parameter.requires_grad for parameter in model.layer1.parameters())
    assert all(parameter.requires_grad for parameter in model.layer2.parameters())
    assert not model.layer3[0].bn1.training
    assert model.layer3.training
    trained = ResNet(frozen_stages=-1, norm_eval=False).train()
    assert trained.conv1.weight.requires_grad
    assert trained.bn1.training


@pytest.mark.parametrize('bad', [dict(depth=34), dict(style='tensorflow')])
def test_invalid_arguments_of_resnet_are_user_errors(bad):
    with pytest.raises(UserError, match=str(next(iter(bad.values())))):
        ResNet(**bad)


def test_fpn_levels():
    feats = [torch.randn(1, 8 * 2 ** i, 32 >> i, 48 >> i) for i in range(4)]
    neck = FPN([8, 16, 32, 64], out_channels=4, num_outs=5, start_level=1)
    assert [tuple(x.shape[-2:]) for x in neck(feats)] == [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    pooled = FPN([8, 16, 32, 64], out_channels=4, num_outs=5, extra_levels='pool')
    assert len(pooled.fpn_convs) == 4
    outs = pooled(feats)
    assert torch.equal(outs[4], outs[3][..., ::2, ::2])


def test_fpn_adds_the_upsampled_coarser_level():
    neck = FPN([1, 1], out_channels=1, num_outs=2)
    with torch.no_grad():
        for conv in (*neck.lateral_convs, *neck.fpn_convs):
            conv.conv.weight.zero_()
            conv.conv.weight[..., conv.conv.weight.shape[-1] // 2, conv.conv.weight.shape[-1] // 2] = 1
            conv.conv.bias.zero_()
        fine, coarse = torch.randn(1, 1, 4, 6), torch.randn(1, 1, 2, 3)
        outs = neck((fine, coarse))
    assert torch.allclose(outs[1], coarse)
    assert torch.allclose(outs[0], fine + coarse.repeat_interleave(2, -1).repeat_interleave(2, -2))


@pytest.mark.parametrize('bad', [dict(num_outs=1), dict(num_outs=5, extra_levels='sum')])
def test_invalid_arguments_of_fpn_are_user_errors(bad):
    with pytest.raises(UserError):
        FPN([8, 16], **bad)
