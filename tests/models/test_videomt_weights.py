"""VidEoMT's weights under three kinds of names, strictly and in both directions; starts of a training."""
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from mmdet.apis import load_config
from mmdet.checkpoint import load_backbone_weights, load_initial_weights, load_model
from mmdet.errors import UserError
from mmdet.models.backbones import QueryViT
from mmdet.models.detectors.videomt_weights import from_published, to_authors, to_transformers, videomt_sizes
from mmdet.registry import MODELS
from tests.helpers.golden import golden_json
from tests.helpers.videomt import golden_videomt, golden_videomt_weights, videomt_config
from tools.model_converters import convert_videomt as converter


@pytest.fixture(scope='module')
def weights():
    return golden_videomt().state_dict()


def equal(first, second) -> None:
    assert set(first) == set(second)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_both_directions_of_both_maps(weights):
    equal(from_published(to_transformers(weights, 3)), weights)
    equal(from_published(to_authors(weights, 3)), weights)
    equal(from_published(weights), weights)


def test_names_and_shapes_of_transformers(weights):
    shapes = {name: list(value.shape) for name, value in to_transformers(weights, 3).items()}
    assert shapes == golden_json('videomt_small.state_dict.json')


def test_names_of_the_authors(weights):
    authors = to_authors(weights, 3)
    assert {name.partition('.')[0] for name in authors} == {'backbone', 'criterion'}
    assert authors['backbone.encoder.backbone.blocks.4.attn.qkv.weight'].shape == (192, 64)
    assert authors['backbone.encoder.backbone.pos_embed'].shape == (1, 64, 64)
    assert authors['criterion.empty_weight'].tolist() == pytest.approx([1, 1, 1, 1, 1, 0.1])
    assert authors['backbone.attn_mask_probs'].shape == (3,)
    assert {'backbone.q.weight', 'backbone.upscale.1.norm.bias', 'backbone.mask_head.4.bias',
            'backbone.class_head.weight', 'backbone.query_updater.bias'} <= set(authors)


@pytest.mark.parametrize('size, parameters, tensors', [
    ('small', 24_088_361, 247), ('base', 94_182_953, 247), ('large', 317_650_985, 463)])
def test_published_sizes(size, parameters, tensors):
    """Numbers of parameters (with transformers' mask token, which nothing reads) and of tensors in its files."""
    cfg = load_config(f'configs/videomt_{size}_ytvis2019.py')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    own = sum(parameter.numel() for parameter in model.parameters())
    assert own in (parameters, parameters - cfg.model.backbone.embed_dims)
    assert len(to_transformers(model.state_dict(), 3)) == tensors


@pytest.mark.parametrize('kind', ['transformers', 'authors'])
@pytest.mark.parametrize('fault, said', [
    (lambda file: file.update(more=torch.zeros(1)), '1 unexpected: more'),
    (lambda file: file.popitem(), 'missing'),
    (lambda file: file.update({next(iter(file)): torch.zeros(7, 7)}), 'wrong shape|unexpected')], ids=['more', 'less',
                                                                                                    'shape'])
def test_a_strict_load(weights, kind, fault, said):
    file = dict(to_transformers(weights, 3) if kind == 'transformers' else to_authors(weights, 3))
    for name in [name for name in file if name.endswith(('attn_mask_probs', 'empty_weight', 'mask_token'))]:
        del file[name]
    load_model(golden_videomt(), 'file', {'model': dict(file)})
    fault(file)
    with pytest.raises(UserError, match=said):
        load_model(golden_videomt(), 'file', {'model': file})


@pytest.mark.parametrize('load', [load_model, load_initial_weights])
def test_files_of_all_kinds_load_as_they_are(weights, tmp_path, load):
    save_file(to_transformers(weights, 3), tmp_path / 'model.safetensors')
    torch.save({'model': to_authors(weights, 3)}, tmp_path / 'authors.pth')
    torch.save({'state_dict': weights}, tmp_path / 'own.pth')
    for name in ('model.safetensors', 'authors.pth', 'own.pth'):
        model = MODELS.build(videomt_config())
        load(model, tmp_path / name)
        equal(model.state_dict(), weights)


def test_sizes_are_read_from_shapes(weights):
    for file, blocks in ((weights, None), (to_authors(weights, 3), 3), (golden_videomt_weights(), 3)):
        sizes = videomt_sizes(file, 'file')
        assert sizes == (64, 5, 1, blocks, 20, 5, 8)
    with pytest.raises(UserError, match='no VidEoMT weights'):
        videomt_sizes({'a': torch.zeros(1)}, 'file')


def test_weights_of_single_frames_start_a_training(weights):
    file = {name: value for name, value in to_authors(weights, 3).items() if 'query_updater' not in name}
    model = MODELS.build(videomt_config())
    initial = model.head.query_updater.weight.clone()
    load_initial_weights(model, 'stage1.pth', {'model': file})
    assert torch.equal(model.head.query_updater.weight, initial)
    assert torch.equal(model.head.query.weight, weights['head.query.weight'])


def test_another_number_of_classes_starts_the_class_layer_anew(weights):
    model = MODELS.build(videomt_config(head=dict(type='QueryMaskHead', num_classes=2, num_queries=20)))
    initial = model.head.class_predictor.weight.clone()
    load_initial_weights(model, 'file', {'model': to_authors(weights, 3)})
    assert torch.equal(model.head.class_predictor.weight, initial)
    assert torch.equal(model.head.query.weight, weights['head.query.weight'])


@pytest.fixture(scope='module')
def dinov2():
    """A small network of the kind of timm's DINOv2 with registers."""
    torch.manual_seed(0)
    return timm.create_model('vit_small_patch14_reg4_dinov2', embed_dim=64, depth=3, num_heads=1, img_size=56)


def test_dinov2_starts_a_training(dinov2):
    model = QueryViT(embed_dims=64, depth=3, num_heads=1, query_blocks=1, image_size=96)
    load_backbone_weights(model, dinov2.state_dict(), 'dinov2')
    assert torch.equal(model.vit.blocks[2].mlp.fc1.weight, dinov2.blocks[2].mlp.fc1.weight)
    assert model.vit.patch_embed.proj.weight.shape[-1] == 16 and model.vit.pos_embed.shape == (1, 36, 64)
    # the patch embedding of a patch of one colour stays as it was
    colour = torch.randn(1, 3, 1, 1)
    with torch.no_grad():
        before = dinov2.patch_embed.proj(colour.expand(1, 3, 14, 14)).flatten()
        after = model.vit.patch_embed.proj(colour.expand(1, 3, 16, 16)).flatten()
    torch.testing.assert_close(before, after, atol=1e-3, rtol=1e-3)


def test_dinov2_at_its_own_sizes_is_timm_s_network(dinov2):
    model = QueryViT(embed_dims=64, depth=3, num_heads=1, query_blocks=1, patch_size=14, image_size=56)
    load_backbone_weights(model, dinov2.state_dict(), 'dinov2')
    images = torch.randn(2, 3, 56, 56)
    with torch.no_grad():
        tokens = model.norm(model.query_block(0, model.encode(images)))
        torch.testing.assert_close(tokens, dinov2.eval().forward_features(images), atol=1e-5, rtol=1e-5)


def test_dinov2_without_registers_is_an_error(dinov2):
    other = timm.create_model('vit_small_patch14_dinov2', embed_dim=64, depth=3, num_heads=1, img_size=56)
    model = QueryViT(embed_dims=64, depth=3, num_heads=1, query_blocks=1, image_size=96)
    with pytest.raises(UserError, match='reg_token'):
        load_backbone_weights(model, other.state_dict(), 'dinov2')


@pytest.mark.parametrize('wrong', [
    dict(num_heads=5), dict(query_blocks=12), dict(query_blocks=0), dict(image_size=100)])
def test_inconsistent_sizes_are_user_errors(wrong):
    with pytest.raises(UserError, match='QueryViT'):
        QueryViT(**wrong)


def test_converting_in_both_directions_restores_the_weights(weights, tmp_path, capsys):
    torch.save({'state_dict': weights}, tmp_path / 'own.pth')
    steps = [('own.pth', 'hf.safetensors', 'transformers'), ('hf.safetensors', 'authors.pth', 'authors'),
             ('authors.pth', 'again.pth', 'project')]
    for source, target, kind in steps:
        assert converter.main([str(tmp_path / source), str(tmp_path / target), '--to', kind]) == 0
        assert '5 blocks of 64 channels, 3 of them with 20 queries; 5 classes' in capsys.readouterr().out
    equal(torch.load(tmp_path / 'again.pth')['state_dict'], weights)
    expected = golden_videomt_weights()
    assert set(load_file(tmp_path / 'hf.safetensors')) == set(expected)


@pytest.mark.parametrize('arguments, said', [
    (['own.pth', 'x.pth', '--to', 'transformers'], 'ends in .safetensors'),
    (['own.pth', 'x.pth', '--classes', 'ovis'], '25 classes')])
def test_errors_of_the_converter(weights, tmp_path, arguments, said):
    torch.save({'state_dict': weights}, tmp_path / 'own.pth')
    with pytest.raises(UserError, match=said):
        converter.main([str(tmp_path / name) if name.endswith('.pth') else name for name in arguments])
    assert 'x.pth' not in [path.name for path in tmp_path.iterdir()]


def test_the_source_is_not_overwritten(weights, tmp_path, capsys):
    own = tmp_path / 'own.pth'
    torch.save({'state_dict': weights}, own)
    before = own.read_bytes()
    with pytest.raises(UserError, match='overwritten'):
        converter.convert(str(own), own, 'project')
    with pytest.raises(SystemExit):
        converter.main([str(own), str(own)])
    assert 'would overwrite the file that is read as source' in capsys.readouterr().err and own.read_bytes() == before


def test_against_an_installed_transformers():
    """The same network, by transformers itself; skipped where that cannot be imported or lacks VidEoMT."""
    transformers = pytest.importorskip('transformers', exc_type=ImportError)  # also if its own needs are not met
    if not hasattr(transformers, 'VideomtForUniversalSegmentation'):
        pytest.skip(f'transformers {transformers.__version__} has no VidEoMT')
    config = transformers.VideomtConfig(
        hidden_size=64, num_hidden_layers=5, num_attention_heads=4, num_blocks=3, num_queries=20, image_size=128,
        patch_size=16, num_register_tokens=4, num_labels=5)
    theirs = transformers.VideomtForUniversalSegmentation(config).eval()
    theirs.load_state_dict(golden_videomt_weights(), strict=True)
    frames = torch.randn(1, 3, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = theirs(pixel_values_videos=frames), golden_videomt().eval()(frames)
    torch.testing.assert_close(found.class_logits[0], expected.class_queries_logits.reshape(3, 20, 6), atol=1e-4,
                               rtol=1e-5)
    torch.testing.assert_close(found.mask_logits[0], expected.masks_queries_logits.reshape(3, 20, 32, 32), atol=1e-4,
                               rtol=1e-5)
