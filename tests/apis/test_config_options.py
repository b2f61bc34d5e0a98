"""--cfg-options: what a value's text means, and that every option reaches something or is named."""
import math
from functools import reduce
from operator import getitem
from pathlib import Path

import pytest

from mmdet.apis.config import load_config
from mmdet.apis.config_options import parse_value, report_unread
from mmdet.apis.config_variables import is_variable
from mmdet.errors import UserError

TOY, YVIS = 'configs/memcnp_toy.py', 'configs/vitmae_cnp_contrast_ms_1x.py'
CONFIGS = sorted(Path('configs').glob('*.py'))


@pytest.mark.parametrize(('text', 'value'), [
    ('3', 3), ('1e-3', 1e-3), ('-2', -2), ('True', True), ('true', True), ('None', None), ('inf', math.inf),
    ('word', 'word'), ('"quoted"', 'quoted'), ('a b', 'a b'), ('', ''), ('data/2021/01', 'data/2021/01'),
    ('1/80', '1/80'), ('2024-01-05', '2024-01-05'), ('/a (1)/b.json', '/a (1)/b.json'),
    ('1,2,3', [1, 2, 3]), ('a,b', ['a', 'b']), ('(64,32)', (64, 32)), ('[(1,2),(3,4)]', [(1, 2), (3, 4)]),
    ('(1,2),(3,4)', [(1, 2), (3, 4)]), ('[a/b.json,c-d]', ['a/b.json', 'c-d']), ('[]', []), ('()', ()),
    ('[cat, sea lion]', ['cat', 'sealion']),
    ('dict(type=EMAHook,momentum=1e-4)', dict(type='EMAHook', momentum=1e-4)),
    ("[dict(type='A', b=[1,dict(c=None)]),dict(type='B')]", [dict(type='A', b=[1, dict(c=None)]), dict(type='B')]),
    ('{"custom_keys": {"backbone": {"lr_mult": 0.1, "x": true, "y": null}}}',
     dict(custom_keys=dict(backbone=dict(lr_mult=.1, x=True, y=None)))),
    ('{custom_keys:{backbone:{lr_mult:0.1}}}', dict(custom_keys=dict(backbone=dict(lr_mult=.1))))])
def test_values(text, value):
    assert parse_value(text) == value and type(parse_value(text)) is type(value)


@pytest.mark.parametrize(('key', 'text', 'said'), [
    ('custom_hooks', '[dict(type=EMAHook,momentum=)]', 'cannot be read as a dict'),
    ('custom_hooks', '[dict(EMAHook)]', 'cannot be read as a dict'), ('model', '{backbone', 'cannot be read as a dict'),
    ('custom_hooks', 'EMAHook', "config key custom_hooks: 'EMAHook' must be a list of dicts"),
    ('optim_wrapper.paramwise_cfg', 'backbone', "paramwise_cfg: 'backbone' must be a dict"),
    ('optim_wrapper.clip_grad', '5', 'clip_grad: 5 must be a dict'),
    ('model.backbone.with_cp', 'maybe', "with_cp: 'maybe' must be True or False"),
    ('model.tracker.motion', 'maybe', "config key model.tracker.motion: 'maybe' must be True or False"),
    ('model.cuda_graphs', 'no', "config key model.cuda_graphs: 'no' must be True or False"),
    ('param_scheduler.0.start_factor', 'a/b', "start_factor: 'a/b' must be a number"),
    ('test_dataloader.dataset.pipeline.1.scale', '240', r'scale: 240 must be a list, such as \(320, 192\)'),
    ('test_dataloader.dataset.pipeline', 'x', 'must be a list, such as'),
    ('launcher', 'pytorch', 'give --launcher'),
    ('custom_hooks', '[dict(type=EMAHok)]', 'custom_hooks.0.type: nothing is registered as .EMAHok')])
def test_values_of_another_kind_are_named(key, text, said):
    with pytest.raises(UserError, match=said) as error:
        load_config(TOY, [(key, text)])
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(('key', 'text', 'value'), [
    ('param_scheduler.0.start_factor', '1/80', 1 / 80), ('train_dataloader.dataset.data_root', '2021', '2021'),
    ('custom_hooks', '[dict(type=EMAHook,momentum=0.1)]', [dict(type='EMAHook', momentum=.1)]),
    ('optim_wrapper.paramwise_cfg', '{"custom_keys": {"backbone": {"lr_mult": 0.1}}}',
     dict(custom_keys=dict(backbone=dict(lr_mult=.1)))),
    ('visualizer.vis_backends', '[dict(type=LocalVisBackend)]', [dict(type='LocalVisBackend')])])
def test_values_take_the_kind_of_the_former_one(key, text, value):
    node = load_config(TOY, [(key, text)])
    for part in key.split('.'):
        node = node[int(part)] if isinstance(node, list) else node[part]
    assert node == value


def strings(node):
    if isinstance(node, dict):
        node = node.values()
    elif not isinstance(node, (list, tuple)):
        return [node] if isinstance(node, str) else []
    return [text for child in node for text in strings(child)]


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_data_root_reaches_everything_that_was_built_from_it(path):
    former = load_config(path).data_root
    cfg = load_config(path, [('data_root', 'elsewhere/')])
    assert not [text for text in strings(cfg._cfg_dict) if text.startswith(former)]
    assert cfg.train_dataloader.dataset.get('data_root', 'elsewhere/') == 'elsewhere/'
    assert cfg.test_dataloader.dataset.data_root == 'elsewhere/'
    assert cfg.test_evaluator.ann_file.startswith('elsewhere/')
    assert cfg.filename == str(path) and str(path.name) in cfg.text


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_pipelines_reach_the_data_sets(path):
    flip = [step.type for step in load_config(path).train_pipeline].index('RandomFlipClip')
    options = [('test_pipeline.0.keep_original', 'True'), (f'train_pipeline.{flip}.prob', '0.25'),
               ('data_root', 'there/')]
    cfg = load_config(path, options)
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.pipeline[0].keep_original and loader.dataset.data_root == 'there/'
    dataset = cfg.train_dataloader.dataset
    assert dataset.get('datasets', [dataset])[0].pipeline[flip].prob == .25


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_options_of_the_memory_and_the_tracker_can_be_set_in_every_config(path):
    model = load_config(path).model
    given = {}
    if model.get('bbox_head', {}).get('type') == 'CNPContrastHead':
        given['bbox_head.memory'] = dict(read_temperature=0.5, decay='counted', init_units='kmeans', per_level=True)
        given['bbox_head.memory.online_memory'] = dict(momentum=0.5)
    if 'tracker' in model:
        given['tracker'] = dict(assignment='greedy', embedding_momentum=0.25, motion=True, new_logit=3.5)
    cfg = load_config(path, [(f'model.{node}.{key}', str(value)) for node, values in given.items()
                             for key, value in values.items()])
    for node, values in given.items():
        assert values.items() <= dict(reduce(getitem, node.split('.'), cfg.model)).items()


def test_variables_of_the_models():
    cfg = load_config('configs/masktrack_rcnn_r50_fpn_1x_yvis.py', [('num_classes', '7')])
    assert cfg.model.bbox_head.num_classes == cfg.model.mask_head.num_classes == 7
    joint = load_config('configs/vitmae_cnp_joint_ms_1x.py', [('coco_root', 'c/'), ('coco_pipeline.4.prob', '0')])
    for dataset in joint.train_dataloader.dataset.datasets[1:]:
        assert dataset.data_root == 'c/' and dataset.pipeline[4].prob == 0


def test_a_key_given_beside_a_variable_counts():
    cfg = load_config(TOY, [('test_dataloader.dataset.data_root', 'b/'), ('data_root', 'a/')])
    assert (cfg.train_dataloader.dataset.data_root, cfg.test_dataloader.dataset.data_root) == ('a/', 'b/')


def test_a_whole_pipeline_may_be_given():
    steps = "[dict(type=LoadTrackFrames),dict(type=ResizeClip,scale=(64,32)),dict(type=PackTrackInputs)]"
    assert load_config(YVIS, [('test_pipeline', steps)]).test_dataloader.dataset.pipeline[1].scale == (64, 32)


@pytest.mark.parametrize('text', ['nan', 'inf', '[0.5,inf]', 'dict(a=(1,nan))'])
def test_variables_may_be_any_value(tmp_path, text):
    """The value becomes part of a Python file, in which nan and inf are no names."""
    path = tmp_path / 'config.py'
    path.write_text("value = None\nmodel = dict(type='FCOS', init_cfg=[value])")
    assert str(load_config(path, [('value', text)]).value) == str(parse_value(text))


def test_a_variable_that_nothing_is_built_from_is_named(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = ['{Path(YVIS).resolve()}']\nimg_scale = (96, 64)\nscale = (96, 64)\n"
                    "test_pipeline = [dict(type='LoadTrackFrames'), dict(type='ResizeClip', scale=img_scale)]\n"
                    "test_dataloader = dict(dataset=dict(pipeline=test_pipeline))\n")
    assert load_config(path, [('img_scale', '(32,32)')]).test_dataloader.dataset.pipeline[1].scale == (32, 32)
    with pytest.raises(UserError, match=r"scale: nothing in .*mine\.py is built from 'scale'; give "
                                        r".*test_dataloader\.dataset\.pipeline\.1\.scale"):
        load_config(path, [('scale', '(32,32)')])
    with pytest.raises(UserError, match='cannot be read with this value: TypeError'):
        load_config(path.with_name('mine.py'), [('data_root', 'None')])


def test_a_variable_with_an_unknown_key_is_named():
    with pytest.raises(UserError, match=r"test_pipeline is a list of 3; '9' is not one of 0\.\.2"):
        load_config(TOY, [('test_pipeline.9.scale', '(1,1)')])
    with pytest.raises(UserError, match=r"ResizeClip has no argument 'scales'|no key 'test_pipeline\.1\.scales'"):
        load_config(TOY, [('test_pipeline.1.scales', '(1,1)')])


def test_every_top_level_name_is_read_or_a_variable():
    found = {name for path in CONFIGS for cfg in [load_config(path)] for name in cfg if is_variable(cfg, name)}
    assert found >= {'data_root', 'train_pipeline', 'test_pipeline', 'num_classes', 'coco_root', 'coco_pipeline'}
    assert not found & {'model', 'train_dataloader', 'optim_wrapper', 'param_scheduler', 'find_unused_parameters'}


def test_options_that_a_command_does_not_read_are_named(capsys):
    options = [('val_dataloader.num_workers', '1'), ('optim_wrapper.optimizer.lr', '1'), ('model.backbone.depth', '1')]
    report_unread(options, ('val_dataloader', 'optim_wrapper'), 'test_video.py')
    assert capsys.readouterr().out == (
        '--cfg-options val_dataloader.num_workers optim_wrapper.optimizer.lr: without effect, test_video.py does not '
        'read optim_wrapper, val_dataloader; it reads test_dataloader\n')
    report_unread(options[2:], ('val_dataloader',), 'train.py')
    assert capsys.readouterr().out == ''
