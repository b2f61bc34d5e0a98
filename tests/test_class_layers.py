"""Initial weights of a detector with other classes: rows of equal names are kept in every head; testing is strict."""
import json
from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope
from torch import nn

from mmdet.apis import load_config, train
from mmdet.apis.config import pretrained_nodes
from mmdet.apis.config_names import typed_dicts
from mmdet.checkpoint import ClassRows, load_initial_weights, load_model
from mmdet.checkpoint.class_layers import class_counts
from mmdet.errors import UserError
from mmdet.registry import MODELS


class Detector(nn.Module):
    """Class layers of each form, without a network: row r of the weights of the file is filled with r."""

    class_layers = {'head.cls': ClassRows(), 'head.reg': ClassRows(2, background='first'),
                    'head.logits': ClassRows(background='last')}

    def __init__(self, classes):
        super().__init__()
        self.neck = nn.Linear(2, 2)
        self.head = nn.ModuleDict({'cls': nn.Linear(3, classes), 'reg': nn.Linear(3, 2 * (classes + 1)),
                                   'logits': nn.Conv2d(3, classes + 1, 1)})

    def numbered(self):
        with torch.no_grad():
            for layer in self.head.values():
                layer.weight.copy_(torch.arange(len(layer.weight)).view(-1, *[1] * (layer.weight.ndim - 1)))
                layer.bias.copy_(torch.arange(len(layer.bias)))
        return self

    def marked(self):
        with torch.no_grad():
            for layer in self.head.values():
                layer.weight.fill_(-1)
                layer.bias.fill_(-1)
        return self

    def rows(self):
        assert all(torch.equal(layer.weight.flatten(1)[:, 0], layer.bias) for layer in self.head.values())
        return {name: layer.bias.tolist() for name, layer in self.head.items()}


def checkpoint_of(model, classes):
    return {'meta': {'dataset_meta': {'classes': classes}} if classes else {}, 'state_dict': model.state_dict()}


@pytest.fixture
def said(monkeypatch):
    """Collect the lines that loading writes to the log."""
    lines = []
    monkeypatch.setattr('mmdet.checkpoint.loading.print_log', lambda text, logger: lines.append(text))
    return lines


@pytest.mark.parametrize(('old', 'new', 'expected'), [
    pytest.param('abc', 'dcax', {'cls': [-1, 2, 0, -1], 'reg': [0, 1, -1, -1, 6, 7, 2, 3, -1, -1],
                                 'logits': [-1, 2, 0, -1, 3]}, id='fewer to more'),
    pytest.param('abc', 'b', {'cls': [1], 'reg': [0, 1, 4, 5], 'logits': [1, 3]}, id='a subset'),
    pytest.param('abc', 'cab', {'cls': [2, 0, 1], 'reg': [0, 1, 6, 7, 2, 3, 4, 5], 'logits': [2, 0, 1, 3]},
                 id='another order'),
    pytest.param('abc', 'abc', {'cls': [0, 1, 2], 'reg': [0, 1, 2, 3, 4, 5, 6, 7], 'logits': [0, 1, 2, 3]}, id='equal'),
    pytest.param('abc', 'xy', {'cls': [-1] * 2, 'reg': [-1] * 6, 'logits': [-1] * 3}, id='no equal name'),
    pytest.param('', 'ab', {'cls': [-1] * 2, 'reg': [-1] * 6, 'logits': [-1] * 3}, id='names unknown, other number'),
    pytest.param('', 'abc', {'cls': [0, 1, 2], 'reg': [0, 1, 2, 3, 4, 5, 6, 7], 'logits': [0, 1, 2, 3]},
                 id='names unknown, equal number'),
])
def test_rows_of_equal_names_are_kept_and_others_keep_their_initial_values(said, old, new, expected):
    source, model = Detector(3).numbered(), Detector(len(new)).marked()
    load_initial_weights(model, 'x.pth', checkpoint_of(source, tuple(old)), tuple(new))
    assert model.rows() == expected
    assert torch.equal(model.neck.weight, source.neck.weight)
    taken_as_they_are = old == new or (not old and len(new) == 3)
    assert len(said) == (0 if taken_as_they_are else 1)


def test_one_line_names_layers_and_classes(said):
    load_initial_weights(Detector(4), 'x.pth', checkpoint_of(Detector(3), ('person', 'giant_panda', 'cat')),
                         ('Person', 'Giant Panda', 'sheep', 'dog'))
    assert said == ['x.pth: the file has 3 classes, the model 4: head.cls, head.logits, head.reg are loaded for 2 '
                    'classes with equal names (Person, Giant Panda) and keep their initial values for sheep, dog']


def test_one_line_says_why_all_rows_keep_their_initial_values(said):
    load_initial_weights(Detector(4), 'x.pth', checkpoint_of(Detector(3), ()), tuple('abcd'))
    load_initial_weights(Detector(1), 'x.pth', checkpoint_of(Detector(3), tuple('abc')), ('d',))
    assert said == ['x.pth: the file has 3 classes, the model 4: head.cls, head.logits, head.reg keep their initial '
                    'values (the names of the classes are not known)',
                    'x.pth: the file has 3 classes, the model 1: head.cls, head.logits, head.reg keep their initial '
                    'values (no class has an equal name)']


def test_half_precision_rows_become_the_models(said):
    source, model = Detector(3).numbered(), Detector(2).marked()
    load_initial_weights(model, 'x.pth', checkpoint_of(source.half(), tuple('abc')), ('c', 'x'))
    assert model.head['cls'].bias.tolist() == [2, -1] and model.head['cls'].bias.dtype == torch.float32


def test_testing_and_resuming_are_strict():
    with pytest.raises(UserError, match='the file has 3, the config 4; use the config of the data set'):
        load_model(Detector(4), 'x.pth', checkpoint_of(Detector(3), tuple('abc')))


def test_other_differences_are_refused_as_before():
    weights = Detector(3).state_dict()
    weights['neck.weight'] = torch.ones(5, 2)
    with pytest.raises(UserError, match=r'1 of wrong shape: neck\.weight'):
        load_initial_weights(Detector(4), 'x.pth', {'state_dict': weights})


def configs_of_each_kind():
    """Return one config per combination of detector and heads."""
    kinds = {}
    for path in sorted((Path(__file__).parent.parent / 'configs').glob('*.py')):
        cfg = load_config(path)
        if any('num_classes' in node for _, node in typed_dicts(cfg.model, '')):
            kinds.setdefault(tuple(sorted({node['type'] for where, node in typed_dicts(cfg.model, 'model')
                                           if not where.startswith('model.backbone')})), path)
    return sorted(kinds.values())


@pytest.mark.parametrize('path', configs_of_each_kind(), ids=lambda path: path.stem)
def test_every_head_declares_what_depends_on_the_number_of_classes(path):
    init_default_scope('mmdet')
    models = []
    for count in (3, 7):
        cfg = load_config(path)
        for _, node in pretrained_nodes(cfg):
            node.init_cfg = None
        for _, node in typed_dicts(cfg.model, ''):
            if 'num_classes' in node:
                node['num_classes'] = count
        with torch.device('meta'):
            models.append(MODELS.build(cfg.model))
    old, new = (model.state_dict() for model in models)
    differing = {name for name in old if old[name].shape != new[name].shape}
    layers, old_count, new_count = class_counts(models[1], old)
    assert differing and set(layers) == differing and (old_count, new_count) == (3, 7)


def test_a_training_starts_from_a_detector_of_other_classes(toy_config, tmp_path):
    """The classes of the data set come from its annotation file, those of the checkpoint from its ``dataset_meta``."""
    init_default_scope('mmdet')
    options = [('train_dataloader.num_workers', '0'), ('train_cfg.max_epochs', '1'), ('param_scheduler', '[]'),
               ('optim_wrapper.optimizer.lr', '1e-12'), ('optim_wrapper.clip_grad', 'None')]
    cfg = load_config(toy_config, options)
    names = json.loads(Path(cfg.val_evaluator.ann_file).read_text())['categories']
    names = [category['name'] for category in sorted(names, key=lambda category: category['id'])]
    other = load_config(toy_config, [('model.bbox_head.num_classes', '2')])
    source = MODELS.build(other.model)
    torch.nn.init.constant_(source.bbox_head.fcos_cls.bias, 3)
    torch.save(checkpoint_of(source, ('unicorn', names[1])), tmp_path / 'other.pth')
    model = train(cfg, work_dir=str(tmp_path / 'run'), load_from=str(tmp_path / 'other.pth'))
    bias = model.bbox_head.fcos_cls.bias.detach().cpu()
    assert (bias > 2.9).tolist() == [False, True, False]
    torch.testing.assert_close(model.bbox_head.fcos_cls.weight[1].cpu(), source.bbox_head.fcos_cls.weight[1])
    log, = (tmp_path / 'run').glob('*/*.log')
    assert (f'bbox_head.fcos_cls are loaded for 1 class with equal names ({names[1]}) and keep their initial values '
            f'for {names[0]}, {names[2]}') in log.read_text()
