"""Swin backbone: padding and masking in closed form, equality with timm, conversion of keys, frozen stages."""
import pytest
import timm
import torch
from timm.models.swin_transformer import SwinTransformer as TimmSwin

from mmdet.checkpoint import load_backbone_weights, load_weights, read_checkpoint, weights_of
from mmdet.errors import UserError
from mmdet.models.backbones.swin import SwinTransformer
from mmdet.models.layers.swin_blocks import SwinBlock, shift_mask

TINY = dict(depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window_size=7)


def timm_model(**kwargs) -> TimmSwin:
    """Build timm's Swin with random weights; as in detection code, maps smaller than a window are partitioned, too."""
    torch.manual_seed(0)
    model = TimmSwin(embed_dim=16, always_partition=True, num_classes=3, **(TINY | kwargs))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def original_naming(weights: dict, window: int = 7) -> dict:
    """Convert timm's weights to the keys of Microsoft's files.

    There, patch merging is at the end of a stage, constants are stored, and the classifier is called ``head``.
    """
    named = {}
    for name, value in weights.items():
        parts = name.split('.')
        if parts[0] == 'layers' and parts[2] == 'downsample':
            parts[1] = str(int(parts[1]) - 1)
        named['.'.join(parts).replace('head.fc.', 'head.')] = value
    for stage in range(4):
        named[f'layers.{stage}.blocks.1.attn_mask'] = torch.zeros(4, window ** 2, window ** 2)
        named[f'layers.{stage}.blocks.0.attn.relative_position_index'] = torch.zeros(window ** 2, window ** 2).long()
    return named


@pytest.mark.parametrize('naming', ['original', 'timm'])
def test_loaded_file_gives_timms_maps(tmp_path, naming):
    reference = timm_model()
    weights = reference.state_dict()
    path = tmp_path / 'swin.pth'
    torch.save({'model': original_naming(weights) if naming == 'original' else weights}, path)
    model = SwinTransformer(embed_dims=16, **TINY).eval()
    load_backbone_weights(model, weights_of(read_checkpoint(path), path), path)
    image = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        expected = reference.forward_intermediates(image, intermediates_only=True)
        maps = model(image)
    for level, (ours, theirs) in enumerate(zip(maps, expected)):
        # the file has no output norms: they stay at weight 1, bias 0
        normed = torch.nn.functional.layer_norm(theirs.permute(0, 2, 3, 1), theirs.shape[1:2]).permute(0, 3, 1, 2)
        assert ours.shape == (2, 16 * 2 ** level, 56 // 2 ** level, 56 // 2 ** level)
        torch.testing.assert_close(ours, normed, rtol=1e-4, atol=1e-4)


def test_real_variant_has_the_published_names():
    """All names and shapes of timm's Swin-S except those of classifier and final norm, and four output norms."""
    theirs = original_naming(timm.create_model('swin_small_patch4_window7_224').state_dict())
    expected = {name: tuple(value.shape) for name, value in theirs.items()
                if not name.startswith(('head.', 'norm.')) and not name.endswith(('_mask', 'relative_position_index'))}
    expected |= {f'norm{i}.{kind}': (96 * 2 ** i,) for i in range(4) for kind in ('weight', 'bias')}
    model = SwinTransformer(embed_dims=96, depths=(2, 2, 18, 2), num_heads=(3, 6, 12, 24))
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == expected


def test_weights_of_a_detector_are_loaded_with_strict_keys():
    """A detector's file contains output norms and stored constants with the prefix ``backbone``."""
    source, target = (torch.nn.ModuleDict(dict(backbone=SwinTransformer(embed_dims=16, **TINY))) for _ in range(2))
    torch.nn.init.normal_(source.backbone.norm2.weight)
    weights = source.state_dict() | {'backbone.layers.0.blocks.1.attn_mask': torch.zeros(4, 49, 49)}
    load_weights(target, weights, 'file')
    assert all(torch.equal(value, target.state_dict()[name]) for name, value in source.state_dict().items())
    with pytest.raises(UserError, match=r'1 missing: backbone\.norm2\.weight'):
        del weights['backbone.norm2.weight']
        load_weights(target, weights, 'file')


def test_relative_position_biases_of_another_window_size_are_resized():
    weights = timm_model(window_size=7).state_dict()
    model = SwinTransformer(embed_dims=16, **(TINY | dict(window_size=4)))
    converted = model.convert_weights(original_naming(weights))
    assert converted['layers.0.blocks.0.attn.relative_position_bias_table'].shape == (49, 1)
    assert set(converted) - {'head.weight', 'head.bias'} == set(model.state_dict())


def test_opposite_edges_do_not_attend_to_each_other():
    """If the size of a map is not a multiple of the window's, shifted windows must not connect opposite edges."""
    torch.manual_seed(0)
    block = SwinBlock(8, 2, window=4, shifted=True).double()
    x = torch.randn(1, 9, 10, 8, dtype=torch.float64, requires_grad=True)
    mask = shift_mask(12, 12, 4, x.device, x.dtype)
    block(x, mask)[:, -1].sum().backward(retain_graph=True)
    seen = x.grad.abs().sum((0, 2, 3))
    # exp(-100) is not exactly 0 in double precision
    assert (seen[:6] < 1e-30).all() and (seen[6:] > 1e-3).all()  # rows 6 to 9 are the last shifted window
    x.grad = None
    block(x, mask)[:, :, -1].sum().backward()
    assert (x.grad.abs().sum((0, 1, 3))[:6] < 1e-30).all()


def test_shift_mask_by_hand():
    """Window 2, one column of windows, height 4: the last window holds one row of the bottom and one of the top."""
    mask = shift_mask(4, 2, 2, torch.device('cpu'), torch.float32)
    left_right = torch.tensor([[0., -100., 0., -100.], [-100., 0., -100., 0.]]).repeat(2, 1)
    assert torch.equal(mask[0], left_right)
    assert torch.equal(mask[1], torch.full((4, 4), -100.).fill_diagonal_(0))


@pytest.mark.parametrize('size', [(32, 32), (70, 93), (96, 160), (33, 250)])
def test_any_input_size(size):
    model = SwinTransformer(embed_dims=8, **TINY, out_indices=(1, 3)).eval()
    with torch.no_grad():
        maps = model(torch.randn(1, 3, *size))
    assert [tuple(m.shape) for m in maps] == [
        (1, 8 * 2 ** i, -(-size[0] // (4 * 2 ** i)), -(-size[1] // (4 * 2 ** i))) for i in (1, 3)]


def test_activation_checkpointing_does_not_change_gradients():
    torch.manual_seed(0)
    plain, recomputing = (SwinTransformer(embed_dims=8, **TINY, drop_path_rate=0.0, with_cp=cp) for cp in (False, True))
    recomputing.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 64, 64)
    for model in (plain, recomputing):
        sum(m.square().mean() for m in model.train()(image)).backward()
    for ours, theirs in zip(plain.parameters(), recomputing.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize('frozen, first_trained', [(-1, 'patch_embed'), (0, 'layers.0'), (2, 'layers.2'), (4, None)])
def test_frozen_stages(frozen, first_trained):
    model = SwinTransformer(embed_dims=8, **TINY, frozen_stages=frozen, drop_path_rate=0.5).train()
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert (trained[0].startswith(first_trained) if first_trained else not trained)
    assert model.patch_embed.training == (frozen < 0)
    assert [stage.training for stage in model.layers] == [index >= frozen for index in range(4)]
    assert [getattr(model, f'norm{i}').weight.requires_grad for i in range(4)] == [i >= frozen for i in range(4)]


@pytest.mark.parametrize('wrong', [dict(num_heads=(1, 2)), dict(num_heads=(3, 2, 4, 8)), dict(out_indices=(4,)),
                                   dict(out_indices=()), dict(frozen_stages=5)])
def test_wrong_arguments(wrong):
    with pytest.raises(UserError, match='SwinTransformer'):
        SwinTransformer(embed_dims=8, **(TINY | wrong))
