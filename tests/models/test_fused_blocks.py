"""The ViT's blocks with fused residual additions and layer norms against its blocks one by one."""
import pytest
import torch

from mmdet.models.backbones import ViT, vit
from mmdet.models.layers.fused_blocks import can_fuse, fused_stages
from mmdet.models.layers.patch_product import embed_patches, patch_product


def random_vit(device: str, **kwargs) -> ViT:
    """Return a ViT whose parameters, norms and class token included, all have an effect."""
    torch.manual_seed(0)
    model = ViT(depth=8, **kwargs).to(device).eval()
    for parameter in model.blocks.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    torch.nn.init.normal_(model.cls_token)
    return model


def test_fused_stages_are_those_of_the_blocks_one_by_one():
    model = random_vit('cpu', embed_dims=32, num_heads=2)
    tokens = torch.randn(2, 15, 32)
    with torch.no_grad():
        expected = model._stages(tokens, model.cls_token)
        stages = fused_stages(list(model.blocks), tokens, model.cls_token.flatten(), model.stage_depth, torch.float32)
    assert len(stages) == len(expected) == 3
    for stage, wanted in zip(stages, expected):
        torch.testing.assert_close(stage, wanted, rtol=1e-5, atol=1e-5)


def test_blocks_are_not_fused_on_the_cpu():
    model = random_vit('cpu', embed_dims=32, num_heads=2)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        assert not can_fuse(model.blocks, torch.randn(2, 15, 32))


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_the_product_of_patches_is_the_convolution(layout):
    torch.manual_seed(0)
    images, bias = torch.randn(2, 3, 12, 20), torch.randn(8)
    weight = torch.randn(8, 3, 4, 5).contiguous(memory_format=layout)
    found = patch_product(images, weight, bias, torch.float32)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, torch.nn.functional.conv2d(images, weight, bias, stride=(4, 5)))
    torch.testing.assert_close(patch_product(images, weight, None, torch.float64).float() + bias.view(8, 1, 1), found,
                               rtol=1e-5, atol=1e-5)


@pytest.mark.cuda
def test_patches_are_embedded_as_by_the_convolution_up_to_the_rounding_of_half_precision():
    model, images = random_vit('cuda', embed_dims=96, num_heads=2), torch.randn(2, 3, 96, 160, device='cuda')
    with torch.no_grad(), torch.autocast('cuda', torch.bfloat16):
        found, expected = embed_patches(model.patch_embed, images), model.patch_embed(images)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)


@pytest.mark.cuda
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(('stem', 'embed_dims'), [('patch', 96), ('patch', 384), ('conv', 384)])
def test_maps_are_those_of_the_blocks_one_by_one_up_to_the_rounding_of_half_precision(monkeypatch, dtype, embed_dims,
                                                                                    stem):
    model = random_vit('cuda', embed_dims=embed_dims, num_heads=6, stem=stem)
    images = torch.randn(2, 3, 96, 160, device='cuda')
    with torch.no_grad():
        exact = model(images)
        with torch.autocast('cuda', dtype):
            fused = model(images)
            monkeypatch.setattr(vit, 'can_fuse', lambda *_: False)
            plain = model(images)
    for ours, theirs, wanted in zip(fused, plain, exact):
        assert ours.dtype == dtype and theirs.dtype == torch.float32
        limit = 1.1 * (theirs - wanted).norm() + 2 * torch.finfo(dtype).eps * wanted.norm()
        assert (ours - wanted).norm() < limit


@pytest.mark.cuda
def test_blocks_are_fused_only_under_autocast_without_gradients_and_hooks():
    model, tokens = random_vit('cuda', embed_dims=96, num_heads=2), torch.randn(2, 15, 96, device='cuda')
    with torch.no_grad():
        assert not can_fuse(model.blocks, tokens)
        with torch.autocast('cuda', torch.bfloat16):
            assert can_fuse(model.blocks, tokens)
            hook = model.blocks[1].register_forward_hook(lambda *_: None)
            assert not can_fuse(model.blocks, tokens)
            hook.remove()
            with torch.enable_grad():
                assert not can_fuse(model.blocks, tokens)
