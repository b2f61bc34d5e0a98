"""Reading weights: every accepted layout, every fault as one line, no code run."""
import argparse
import os
import pickle

import pytest
import torch
from torch import nn

from mmdet.checkpoint import (
    StrictPretrainedInit,
    load_backbone_weights,
    load_model,
    newest_whole_checkpoint,
    read_checkpoint,
    weights_of,
)
from mmdet.errors import UserError
from mmdet.models.backbones import ViT


class Detector(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.bbox_head = nn.ModuleDict({'fcos_cls': nn.Linear(2, classes)})


ONE = torch.ones(1)


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


def test_keys_that_only_pre_training_needs_are_said_to_be_ignored(monkeypatch):
    said = []
    monkeypatch.setattr('mmdet.checkpoint.print_log', lambda text, logger: said.append(text))
    backbone = Detector().backbone
    load_backbone_weights(backbone, backbone.state_dict() | {'decoder_pred.bias': torch.ones(1)}, 'mae.pth')
    assert said == ['mae.pth: 1 keys that only pre-training needs are ignored: decoder_pred.bias']


def test_a_backbone_starts_a_training_but_cannot_be_tested(tmp_path):
    source, model = Detector(), Detector()
    torch.save({'model': source.backbone.state_dict()}, tmp_path / 'mae.pth')
    head = model.bbox_head['fcos_cls'].weight.clone()
    load_model(model, tmp_path / 'mae.pth', allow_backbone=True)
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


@pytest.mark.parametrize('content', [b'', b'hello', b'PK\x03\x04', b'\x80\x02'])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / 'x.pth').write_bytes(content)
    with pytest.raises(UserError, match=r'x.pth: (refused|damaged)'):
        read_checkpoint(tmp_path / 'x.pth')


@pytest.mark.parametrize(('content', 'message'), [([1], 'holds a list, not a dict'), ({'a': 1}, 'no weights')])
def test_other_contents_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / 'x.pth')
    with pytest.raises(UserError, match=message):
        weights_of(read_checkpoint(tmp_path / 'x.pth'), 'x.pth')


def test_missing_file_is_named():
    with pytest.raises(UserError, match=r'nowhere/x\.pth: no such checkpoint file'):
        read_checkpoint('nowhere/x.pth')
