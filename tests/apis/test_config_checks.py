"""Unknown names in configs and --cfg-options are found before anything is built."""
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmdet.apis.config import check_config, load_config, pretrained_nodes
from mmdet.errors import UserError
from mmdet.registry import DATASETS

TOY = 'configs/memcnp_toy.py'


@pytest.mark.parametrize(('key', 'text', 'value'), [
    ('optim_wrapper.optimizer.lr', '0.5', 0.5), ('model.bbox_head.num_classes', '7', 7),
    ('train_dataloader.dataset.pipeline.3.prob', '0.25', 0.25), ('load_from', 'x.pth', 'x.pth'),
    ('model.backbone.with_cp', 'True', True), ('test_dataloader.dataset.pipeline.1.scale', '(64,32)', (64, 32)),
    ('model.backbone.patch_size', '16', 16), ('model.backbone.init_cfg', 'None', None),
    ('find_unused_parameters', 'True', True)])
def test_options_change_what_is_there_or_may_be_there(key, text, value):
    node = load_config(TOY, [(key, text)])
    for part in key.split('.'):
        node = node[int(part)] if isinstance(node, list) else node[part]
    assert node == value


def test_an_option_may_fill_what_is_none():
    key = 'model.backbone.init_cfg'
    cfg = load_config(TOY, [(f'{key}.type', 'Pretrained'), (f'{key}.checkpoint', 'a.pth')])
    (where, node), = pretrained_nodes(cfg)
    assert where == 'model.backbone' and node.init_cfg.checkpoint == 'a.pth'


def test_several_options_may_fill_a_dict_that_is_none():
    key = 'model.bbox_head.memory.online_memory'
    cfg = load_config(TOY, [(f'{key}.score_thr', '0.5'), (f'{key}.momentum', '0.8')])
    assert cfg.model.bbox_head.memory.online_memory == dict(score_thr=0.5, momentum=0.8)
    with pytest.raises(UserError, match='did you mean max_norm'):
        load_config(TOY, [(f'{key}.score_thr', '0.5'), ('optim_wrapper.clip_grad.max_nrom', '3')])


@pytest.mark.parametrize(('key', 'text', 'message'), [
    ('optim_wrapper.optimizer.lrr', '1', "no key 'optim_wrapper.optimizer.lrr'; did you mean lr"),
    ('modle.backbone.depth', '1', "no key 'modle'; did you mean model"),
    ('model.backbone.dept', '8', "no key 'model.backbone.dept'; did you mean depth"),
    ('train_dataloader.batchsize', '1', 'did you mean batch_size'),
    ('train_dataloader.dataset.pipeline.9.prob', '1', "list of 5; '9' is not one of 0..4"),
    ('model.backbone.depth.x', '1', 'model.backbone.depth is 12, it has no keys'),
    ('model.backbone.depth', '[1,(2]', 'brackets')])
def test_unknown_options_are_named(key, text, message):
    with pytest.raises(UserError) as error:
        load_config(TOY, [(key, text)])
    assert message in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize(('cfg', 'message'), [
    ({'model': {'type': 'SipMaskMen'}}, "model.type: nothing is registered as 'SipMaskMen'; did you mean SipMask"),
    ({'a': [{'type': 'ResizeClip', 'scales': 3}]},
     "a.0.scales: ResizeClip has no argument 'scales'; did you mean scale?"),
    ({'h': {'type': 'StopHook', 'intervall': 3}}, "StopHook has no argument 'intervall'; did you mean interval?")])
def test_unknown_names_in_a_config(cfg, message):
    with pytest.raises(UserError) as error:
        check_config(Config(cfg))
    assert message in str(error.value)


def test_known_names_pass():
    check_config(Config({
        'hook': {'type': 'LoggerHook', 'interval': 3, 'priority': 'LOW'}, 'norm_cfg': {'type': 'GN', 'num_groups': 2},
        'scheduler': {'type': 'LinearLR', 'start_factor': 0.1, 'convert_to_iter_based': True},
        'optimizer': {'type': 'AdamW', 'lr': 1, 'betas': (0, 0)}}))


@pytest.mark.parametrize(('text', 'message'), [
    ('model = dict(', 'cannot be read as a config'), ('_base_ = "./nowhere.py"', 'nowhere.py'),
    ('x = 1 / 0', 'division'), ('', 'holds no model'), ('import nowhere', "No module named 'nowhere'")])
def test_broken_config_files_are_one_line(tmp_path, text, message):
    (tmp_path / 'broken.py').write_text(text)
    with pytest.raises(UserError) as error:
        load_config(tmp_path / 'broken.py')
    assert message in str(error.value) and 'broken.py' in str(error.value) and '\n' not in str(error.value)


def test_data_sets_learn_the_models_number_of_classes(toy_config):
    cfg = load_config(toy_config, [('model.bbox_head.num_classes', '5')])
    assert cfg.train_dataloader.dataset.num_classes == cfg.test_dataloader.dataset.num_classes == 5
    init_default_scope('mmdet')
    with pytest.raises(UserError, match='3 categories, the model 5 classes'):
        DATASETS.build(cfg.train_dataloader.dataset)
    joint = load_config('configs/vitmae_cnp_joint_ms_1x.py').train_dataloader.dataset
    assert 'num_classes' not in joint and [part.num_classes for part in joint.datasets] == [40, 40, 40]


def test_parts_of_a_model_agree_on_the_classes():
    with pytest.raises(UserError, match=r'model\.bbox_head\.num_classes=40, model\.mask_head\.num_classes=25'):
        load_config('configs/masktrack_rcnn_r50_fpn_1x_yvis.py', [('model.mask_head.num_classes', '25')])


def test_missing_config_is_named():
    with pytest.raises(UserError, match=r'nowhere\.py: no such config file'):
        load_config('nowhere.py')
