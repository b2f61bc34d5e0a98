"""Reading weights: all supported layouts, one-line errors, no execution of code."""
import argparse
import os
import pickle
import random
import zipfile

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch import nn

from mmdet.checkpoint import (
    ClassRows,
    StrictPretrainedInit,
    load_backbone_weights,
    load_initial_weights,
    load_model,
    newest_whole_checkpoint,
    read_checkpoint,
    weights_of,
)
from mmdet.errors import UserError
from mmdet.models.backbones import ViT
from mmdet.models.backbones.vit import sincos_position_embedding
from tests.helpers.models import build_memcnp


class Detector(nn.Module):
    class_layers = {'bbox_head.fcos_cls': ClassRows()}

    def __init__(self, classes=3):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.bbox_head = nn.ModuleDict({'fcos_cls': nn.Linear(2, classes)})


ONE = torch.ones(1)


@pytest.fixture
def said(monkeypatch):
    """Collect the lines that loading writes to the log."""
    lines = []
    monkeypatch.setattr('mmdet.checkpoint.loading.print_log', lambda text, logger: lines.append(text))
    return lines


def same(model, other):
    return all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize('wrap', [
    pytest.param(lambda weights: {'meta': {'epoch': 12}, 'state_dict': weights}, id='published'),
    pytest.param(lambda weights: weights, id='plain'),
    pytest.param(lambda weights: {'model': weights}, id='model key'),
    pytest.param(lambda weights: {'state_dict': {f'module.{k}': v for k, v in weights.items()}}, id='data parallel'),
])
def test_layouts_of_a_whole_detector(tmp_path, wrap):
    source, model = Detector(), Detector()
    torch.save(wrap(source.state_dict()), tmp_path / 'a.pth')
    load_model(model, tmp_path / 'a.pth')
    assert same(model, source)


@pytest.mark.parametrize('wrap', [
    pytest.param(lambda weights: {'model': weights | {'decoder_embed.weight': ONE, 'mask_token': ONE},
                                  'args': argparse.Namespace(lr=1)}, id='MAE with decoder'),
    pytest.param(lambda weights: {k: v for k, v in weights.items() if 'num_batches' not in k} | {'fc.bias': ONE},
                 id='torchvision'),
    pytest.param(lambda weights: {'state_dict': {f'backbone.{k}': v for k, v in weights.items()} | {'neck.x': ONE}},
                 id='out of a detector'),
])
def test_layouts_of_a_backbone(tmp_path, wrap, capsys):
    source, backbone = Detector().backbone, Detector().backbone
    torch.save(wrap(source.state_dict()), tmp_path / 'a.pth')
    StrictPretrainedInit(tmp_path / 'a.pth')(backbone)
    assert same(backbone, source)


def test_keys_that_only_pre_training_needs_are_ignored_and_logged(said):
    backbone = Detector().backbone
    load_backbone_weights(backbone, backbone.state_dict() | {'decoder_pred.bias': torch.ones(1)}, 'mae.pth')
    assert said == ['mae.pth: ignored: 1 key that only pre-training needs: decoder_pred.bias']


def test_a_backbone_starts_a_training_but_cannot_be_tested(tmp_path):
    source, model = Detector(), Detector()
    torch.save({'model': source.backbone.state_dict()}, tmp_path / 'mae.pth')
    head = model.bbox_head['fcos_cls'].weight.clone()
    load_initial_weights(model, tmp_path / 'mae.pth')
    assert same(model.backbone, source.backbone) and torch.equal(model.bbox_head['fcos_cls'].weight, head)
    with pytest.raises(UserError, match='holds a backbone only'):
        load_model(model, tmp_path / 'mae.pth')


def test_missing_unexpected_and_wrong_keys_are_one_line(tmp_path):
    weights = Detector().state_dict()
    del weights['backbone.0.bias']
    weights['extra.weight'] = torch.ones(1)
    weights['backbone.0.weight'] = torch.ones(7, 7)
    with pytest.raises(UserError) as error:
        load_model(Detector(), 'x.pth', weights)
    text = str(error.value)
    assert '\n' not in text
    for part in ('x.pth', '1 missing: backbone.0.bias', '1 unexpected: extra.weight',
                 '1 of wrong shape: backbone.0.weight (file (7, 7), model (2, 2))'):
        assert part in text


def test_long_lists_are_cut():
    with pytest.raises(UserError, match=r'20 unexpected: .* and 14 more'):
        load_model(Detector(), 'x.pth', Detector().state_dict() | {f'extra{i:02}': torch.ones(1) for i in range(20)})


def test_class_count_is_named():
    with pytest.raises(UserError, match='the file has 5, the config 3'):
        load_model(Detector(3), 'x.pth', Detector(5).state_dict())


def test_patch_size_is_named():
    file, backbone = ViT(32, 4, 2, patch_size=14), ViT(32, 4, 2)
    with pytest.raises(UserError, match=r'has 14 pixels, the config 16 .* weights with patches of that size') as error:
        load_backbone_weights(backbone, file.state_dict(), 'mae_pretrain_vit_huge.pth')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('change', [dict(memory=dict(per_level=False)), dict(num_units=5), dict(num_units=0)], ids=str)
def test_units_of_the_memory_are_named_and_the_remedy_works(change):
    small = dict(embed_dims=32, channels=32)
    options = dict(num_units=3, memory=dict(init_units='kmeans', per_level=True))
    one, other = (build_memcnp(**small, **settings) for settings in (options, options | change))
    counts = [model.bbox_head.mem.feat_units.num_embeddings if model.bbox_head.mem else 0 for model in (one, other)]
    for model, file, order in ((one, other, counts[::-1]), (other, one, counts)):
        for load in (load_model, load_initial_weights):
            with pytest.raises(UserError) as error:
                load(model, 'x.pth', file.state_dict())
            text = str(error.value)
            assert f'the file has {order[0]} units, the config {order[1]}; set model.bbox_head.num_units ' in text
            assert 'model.bbox_head.memory.per_level ' in text and '\n' not in text
    load_model(build_memcnp(**small, **options), 'x.pth', one.state_dict())


def test_module_is_unchanged_by_a_refused_file():
    model, before = Detector(), Detector()
    before.load_state_dict(model.state_dict())
    with pytest.raises(UserError):
        load_model(model, 'x.pth', {name: value + 1 for name, value in list(model.state_dict().items())[1:]})
    assert same(model, before)


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('save', [torch.save, lambda obj, path: path.write_bytes(pickle.dumps(obj))],
                         ids=['torch', 'pickle'])
def test_a_file_cannot_run_code(tmp_path, save):
    save({'state_dict': {'a': torch.ones(1)}, 'meta': Attack(tmp_path / 'owned')}, tmp_path / 'evil.pth')
    with pytest.raises(UserError, match=r'evil.pth: refused'):
        read_checkpoint(tmp_path / 'evil.pth')
    assert not (tmp_path / 'owned').exists()


def test_a_truncated_file_is_named_with_the_newest_whole_one(tmp_path):
    for epoch in (1, 2, 3):
        torch.save({'a': torch.rand(1000)}, tmp_path / f'epoch_{epoch}.pth')
        os.utime(tmp_path / f'epoch_{epoch}.pth', (epoch, epoch))
    whole = (tmp_path / 'epoch_3.pth').read_bytes()
    (tmp_path / 'epoch_3.pth').write_bytes(whole[:2000])
    assert newest_whole_checkpoint(tmp_path) == tmp_path / 'epoch_2.pth'
    with pytest.raises(UserError, match=r'epoch_3.pth: damaged.*newest whole checkpoint beside it is .*epoch_2.pth'):
        read_checkpoint(tmp_path / 'epoch_3.pth')


@pytest.mark.parametrize('content', [b'', b'hello', b'PK\x03\x04', b'\x80\x02', pickle.dumps([{'a': 1}], protocol=4)])
def test_other_files_are_refused(tmp_path, content, recwarn):
    (tmp_path / 'x.pth').write_bytes(content)
    with pytest.raises(UserError, match=r'x.pth: (refused|damaged)'):
        read_checkpoint(tmp_path / 'x.pth')
    assert not recwarn.list  # nothing is printed beside the error


def test_damaged_bytes_are_one_line_whatever_they_mean(tmp_path):
    """Bytes of the pickle inside are replaced at random; torch raises a dozen kinds of errors for them."""
    source, path = tmp_path / 'a.pth', tmp_path / 'x.pth'
    torch.save({'state_dict': Detector().state_dict(), 'meta': {'a': [1, 'b', 2.0]}}, source)
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    rng = random.Random(0)
    outcomes = set()
    for _ in range(300):
        with zipfile.ZipFile(path, 'w') as archive:
            for name, content in members.items():
                if name.endswith('data.pkl'):
                    content = bytearray(content)
                    content[rng.randrange(len(content))] = rng.randrange(256)
                archive.writestr(name, bytes(content))
        try:
            outcomes.add(type(read_checkpoint(path)))
        except UserError as error:
            assert '\n' not in str(error)
            outcomes.add(UserError)
    assert outcomes == {dict, UserError}


def test_a_list_that_contains_itself_is_read(tmp_path):
    endless = []
    endless.append(endless)
    torch.save({'a': ONE, 'endless': endless}, tmp_path / 'x.pth')
    assert set(read_checkpoint(tmp_path / 'x.pth')) == {'a', 'endless'}


@pytest.mark.parametrize(('content', 'message'), [([1], 'holds a list, not a dict'), ({'a': 1}, 'no weights')])
def test_other_contents_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / 'x.pth')
    with pytest.raises(UserError, match=message):
        weights_of(read_checkpoint(tmp_path / 'x.pth'), 'x.pth')


def test_missing_file_is_named():
    with pytest.raises(UserError, match=r'nowhere/x\.pth: no such checkpoint file'):
        read_checkpoint('nowhere/x.pth')


@pytest.mark.parametrize('save', [save_file, lambda weights, path: save_file(weights, path, {'format': 'pt'})],
                         ids=['bare', 'with metadata'])
def test_safetensors_are_read(tmp_path, save):
    source, model = Detector(), Detector()
    save(source.state_dict(), tmp_path / 'a.safetensors')
    load_model(model, tmp_path / 'a.safetensors')
    assert same(model, source)


@pytest.mark.parametrize('keep', [0, 5, -4], ids=['empty', 'header only', 'cut off'])
def test_a_damaged_safetensors_file_is_one_line(tmp_path, keep):
    path = tmp_path / 'a.safetensors'
    save_file(Detector().state_dict(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r'a\.safetensors: damaged or not a checkpoint') as error:
        read_checkpoint(path)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('prefix', ['detector.', 'model.', 'module.', '_orig_mod.', 'module.model.',
                                    'module._orig_mod.detector.'])
@pytest.mark.parametrize('load', [load_model, load_initial_weights])
def test_prefixes_of_wrappers_are_removed_and_logged(tmp_path, said, load, prefix):
    source, model = Detector(), Detector()
    torch.save({'state_dict': {f'{prefix}{key}': value for key, value in source.state_dict().items()}},
               tmp_path / 'a.pth')
    load(model, tmp_path / 'a.pth')
    assert same(model, source)
    assert [line.partition(': ')[2] for line in said] == [f'the prefix {prefix!r} of 9 keys is removed']


def test_a_prefix_of_some_keys_is_removed(said):
    """mmtracking: the detector below ``detector.``, the rest beside it."""
    source, model = Detector(), Detector()
    load_model(model, 'a.pth', {key if key.startswith('bbox_head') else f'detector.{key}': value
                                for key, value in source.state_dict().items()})
    assert same(model, source) and len(said) == 1


@pytest.mark.parametrize('prefix', ['module.', 'model.backbone.', 'module.model.'])
def test_prefixes_of_wrappers_are_removed_from_a_backbone(prefix):
    source, backbone = Detector().backbone, Detector().backbone
    load_backbone_weights(backbone, {f'{prefix}{key}': value for key, value in source.state_dict().items()}, 'a.pth')
    assert same(backbone, source)


def test_a_part_of_the_name_of_a_wrapper_keeps_its_name(said):
    source, model = (nn.ModuleDict({'model': nn.Linear(2, 2)}) for _ in range(2))
    load_model(model, 'a.pth', source.state_dict())
    assert same(model, source) and said == []


def test_a_file_with_a_weight_twice_is_refused():
    weights = Detector().state_dict()
    with pytest.raises(UserError, match=r'holds module\.backbone\.0\.bias as well as backbone\.0\.bias'):
        load_model(Detector(), 'a.pth', weights | {'module.backbone.0.bias': weights['backbone.0.bias']})


def test_a_checkpoint_of_mmengine_with_a_message_hub_is_read(tmp_path):
    hub = MessageHub.get_instance('a test of checkpoints')
    hub.update_scalar('train/loss', np.float32(2))
    hub.update_info('best', np.float64(3))
    source, model = Detector(), Detector()
    torch.save({'state_dict': source.state_dict(), 'message_hub': hub.state_dict(), 'old_hub': hub,
                'meta': {'dataset_meta': ConfigDict(classes=('a', 'b'), palette=np.zeros((2, 3)))}}, tmp_path / 'a.pth')
    checkpoint = read_checkpoint(tmp_path / 'a.pth')
    load_model(model, 'a.pth', checkpoint)
    assert same(model, source)
    assert checkpoint['meta'] == {'dataset_meta': {'classes': ('a', 'b')}}
    assert checkpoint['message_hub']['log_scalars'] == {} and 'old_hub' not in checkpoint


class AskedForAnAttribute:
    """Pickled as ``getattr(argparse.Namespace, '__init__')``, the first step to other functions."""

    def __reduce__(self):
        return getattr, (argparse.Namespace, '__init__')


class CallsWhatItAskedFor:
    def __reduce__(self):
        return AskedForAnAttribute(), ()

    def __call__(self):
        pass


AskedForAnAttribute.__call__ = CallsWhatItAskedFor.__call__


def test_placeholders_are_neither_read_nor_called(tmp_path):
    torch.save({'state_dict': {'a': ONE}, 'x': AskedForAnAttribute()}, tmp_path / 'a.pth')
    assert set(read_checkpoint(tmp_path / 'a.pth')) == {'state_dict'}
    torch.save({'state_dict': {'a': ONE}, 'x': CallsWhatItAskedFor()}, tmp_path / 'evil.pth')
    with pytest.raises(UserError, match=r'evil\.pth: refused'):
        read_checkpoint(tmp_path / 'evil.pth')


def vit_file(**changes):
    """Weights of a small ViT under MAE's names."""
    weights = ViT(32, 4, 2).state_dict()
    weights |= {name: torch.rand_like(value) for name, value in weights.items()}
    return {name: value for name, value in (weights | changes).items() if value is not None}


def test_vit_of_another_width_is_one_line_with_both_widths():
    with pytest.raises(UserError, match=r'the file has 64 channels, the config 32 \(backbone\.embed_dims\)') as error:
        load_backbone_weights(ViT(32, 4, 2), ViT(64, 4, 2).state_dict(), 'mae.pth')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('side', [28, 7])
def test_vit_positions_of_another_grid_are_resized_and_logged(said, side):
    backbone = ViT(32, 4, 2)
    table = sincos_position_embedding(32, (side, side))[None] / 2
    load_backbone_weights(backbone, vit_file(pos_embed=table), 'mae.pth')
    assert said == [f'mae.pth: pos_embed is resized from {side}×{side} to 14×14 positions']
    torch.testing.assert_close(backbone.pos_embed, resample_abs_pos_embed(table, [14, 14]))
    torch.testing.assert_close(backbone.pos_embed[:, 0], table[:, 0])


@pytest.mark.parametrize('size', [1 + 14 * 13, 14 * 14])
def test_vit_positions_of_a_grid_that_is_not_square_are_refused(size):
    with pytest.raises(UserError, match='1 of wrong shape: pos_embed'):
        load_backbone_weights(ViT(32, 4, 2), vit_file(pos_embed=torch.rand(1, size, 32)), 'mae.pth')


@pytest.mark.parametrize('changes', [
    pytest.param({'norm.weight': None, 'norm.bias': None, 'fc_norm.weight': torch.rand(32),
                  'fc_norm.bias': torch.rand(32), 'head.weight': torch.rand(10, 32)}, id='fine-tuned by MAE'),
    pytest.param({'pos_embed': None}, id='no positions'),
    pytest.param({'norm.weight': None, 'norm.bias': None}, id='no last norm')])
def test_vit_files_without_unused_weights_are_loaded(changes):
    backbone, weights = ViT(32, 4, 2), vit_file(**changes)
    load_backbone_weights(backbone, weights, 'mae.pth')
    assert torch.equal(backbone.blocks[3].mlp.fc2.weight, weights['blocks.3.mlp.fc2.weight'])
    if 'pos_embed' in changes:
        assert torch.equal(backbone.pos_embed, ViT(32, 4, 2).pos_embed)


def test_vit_of_another_depth_lists_the_blocks():
    with pytest.raises(UserError, match=r'48 unexpected: blocks\.4\.'):
        load_backbone_weights(ViT(32, 4, 2), ViT(32, 8, 2).state_dict(), 'mae.pth')
