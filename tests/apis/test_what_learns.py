"""Which parameters of each config learn, with which learning rate and weight decay."""
import re
from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from mmdet.apis import load_config
from mmdet.registry import MODELS
from tests.helpers.two_stage import annotated_frame, clip, noise

CONFIGS = {path.stem: path for path in (Path(__file__).resolve().parents[2] / 'configs').glob('*.py')}
# what does not learn, as patterns of parameter names
STEM = (r'backbone\.(conv1|bn1|layer1)\..*',)
BATCH_NORMS = (*STEM, r'backbone\.layer[234]\..*\.(bn\d|downsample\.1)\.(weight|bias)')
VIT = (r'backbone\.pos_embed', r'backbone\.norm\..*')  # fixed positions; a norm that no output passes
MOBILENET = (r'backbone\.net\.features\.[0-3]\..*',)
SCALES = (r'bbox_head\.scales\..*',)  # of MemCNP: multiply what is detached
FROZEN = {
    'R50_cnp_contrast_ms_1x': BATCH_NORMS + SCALES,
    'R50_cnp_contrast_ms_1x_ovis': BATCH_NORMS + SCALES,
    'cmasktrack_rcnn_r50_fpn_1x_ovis': STEM,
    'cmasktrack_rcnn_r50_fpn_1x_yvis': STEM,
    'fcos_r50_caffe_fpn_gn_1x': BATCH_NORMS,
    'fcos_r50_caffe_fpn_gn_1x_improved': BATCH_NORMS,
    'fcos_vitmae_1x': VIT,
    'maskrcnn_r50_fpn_coco': (r'net\.backbone\.body\.(conv1|layer1)\..*',),  # batch norms have no parameters
    'maskrcnn_r50_fpn_v2_coco': (r'net\.backbone\.body\.(conv1|bn1|layer1)\..*',),
    'masktrack_mobilenetv2_davis': MOBILENET,
    'masktrack_mobilenetv2_davis_coco': MOBILENET,
    'masktrack_rcnn_r50_fpn_1x_yvis': STEM,
    'masktrack_toy_textured': (),
    'memcnp_mobilenetv2_davis': MOBILENET + SCALES,
    'memcnp_mobilenetv2_davis_improved': MOBILENET + SCALES,
    'memcnp_mobilenetv2_davis_coco': MOBILENET + SCALES,
    'memcnp_toy': VIT + SCALES,
    'memcnp_toy_organic': VIT + SCALES,
    'memcnp_toy_organic_improved': VIT + SCALES,
    'memcnp_toy_shapes': VIT + SCALES,
    'memcnp_toy_textured': VIT + SCALES,
    'memcnp_toy_textured_improved': VIT + SCALES,
    'sipmask_mobilenetv2_davis': MOBILENET,
    'sipmask_mobilenetv2_davis_coco': MOBILENET,
    'sipmask_r50_caffe_fpn_gn_ms_1x': BATCH_NORMS,
    'sipmask_r50_fpn_gn_ms_1x': BATCH_NORMS,
    'sipmask_r50_fpn_gn_ms_1x_ovis': BATCH_NORMS,
    'sipmask_swin-L_fpn_4lvls': (),
    'sipmask_swin-s_fpn_ms_1x': (),
    'sipmask_swin-s_fpn_ms_1x_4lvls': (),
    'sipmask_swin-s_swinfpn_ms_1x': (),
    'sipmask_toy_organic': VIT,
    'sipmask_toy_textured': VIT,
    'sipmask_vitmae_ms_1x': VIT,
    'sipmask_vitmae_ms_1x_ovis': VIT,
    **{path: () for path in CONFIGS if path.startswith('videomt_')},  # all of it
    'vitmae_cnp_contrast_ms_1x': VIT + SCALES,
    'vitmae_cnp_contrast_ms_1x_improved': VIT + SCALES,
    'vitmae_cnp_contrast_ms_1x_ovis': VIT + SCALES,
    'vitmae_cnp_contrast_ms_1x_ovis_improved': VIT + SCALES,
    'vitmae_cnp_joint_ms_1x': VIT + SCALES,
    **{f'videomt_{size}_{data}': () for size in ('small', 'base', 'large')
       for data in ('ytvis2019', 'ytvis2021', 'ytvis2022', 'ovis')},
    'videomt_toy': (),
    'videomt_toy_textured': (),
}
PUBLISHED = {  # config: lr, batch size, long side of the test scale, score threshold, objects an image
    'sipmask_r50_caffe_fpn_gn_ms_1x': (.005, 6, 640, .03, 10),
    'sipmask_r50_fpn_gn_ms_1x_ovis': (.005, 8, 640, .03, 15),
    'sipmask_swin-s_fpn_ms_1x': (.005, 8, 640, .03, 10),
    'sipmask_swin-s_fpn_ms_1x_4lvls': (.005, 8, 640, .04, 15),
    'sipmask_swin-s_swinfpn_ms_1x': (.005, 8, 640, .03, 10),
    'sipmask_vitmae_ms_1x': (.005, 8, 640, .03, 10),
    'sipmask_swin-L_fpn_4lvls': (.005, 2, 960, .02, 10),
    'vitmae_cnp_joint_ms_1x': (.005, 8, 640, .03, 10),
    'R50_cnp_contrast_ms_1x': (.001, 8, 960, .03, 10),
    'R50_cnp_contrast_ms_1x_ovis': (.005, 8, 960, .02, 10),
    'vitmae_cnp_contrast_ms_1x': (.001, 4, 960, .015, 10),
    'vitmae_cnp_contrast_ms_1x_ovis': (.005, 4, 960, .015, 20),
}
TWO_STAGE = {  # config: boxes sampled for the RPN and the RoI heads, proposals, objects an image
    'masktrack_rcnn_r50_fpn_1x_yvis': (64, 128, 200, 10),
    'cmasktrack_rcnn_r50_fpn_1x_yvis': (256, 512, 200, 10),
    'cmasktrack_rcnn_r50_fpn_1x_ovis': (256, 512, 1000, 100),
}


def build(name, device='meta', options=()):
    init_default_scope('mmdet')
    # no preprocessor, whose constants a model compares: they have no values on the device 'meta'
    cfg = load_config(CONFIGS[name], [*options, ('model.data_preprocessor', 'None')])
    with torch.device(device):
        return cfg, MODELS.build(cfg.model)


def matches(patterns, names):
    return {name for name in names if any(re.fullmatch(pattern, name) for pattern in patterns)}


def test_every_config_is_in_the_table():
    assert set(FROZEN) == set(CONFIGS)


@pytest.mark.parametrize('name', FROZEN)
def test_parameters_that_learn(name):
    cfg, model = build(name)
    parameters = dict(model.named_parameters())
    assert {name for name, parameter in parameters.items() if not parameter.requires_grad} == matches(
        FROZEN[name], parameters)
    for pattern in FROZEN[name]:
        assert matches([pattern], parameters), f'{pattern} names nothing'
    optimizer = dict(cfg.optim_wrapper.optimizer, fused=False)
    groups = build_optim_wrapper(model, dict(cfg.optim_wrapper, optimizer=optimizer)).optimizer.param_groups
    rates, decays = ({group[key] for group in groups} for key in ('lr', 'weight_decay'))
    stepped = {id(parameter) for group in groups for parameter in group['params']}
    assert stepped >= {id(parameter) for parameter in parameters.values() if parameter.requires_grad}
    rate = cfg.optim_wrapper.optimizer.lr
    if name.startswith('fcos'):
        assert (rates, decays) == ({.01, .02}, {1e-4, 0.})  # biases twice as fast, without decay
    elif 'toy' in name:
        assert (rates, decays) == ({rate}, {.05})
    elif 'mobilenet' in name:
        assert sorted(rates) == pytest.approx([rate / 5, rate]) and decays == {.05}
    elif 'videomt' in name:
        assert max(rates) == rate == 1e-4 and max(decays) == .05  # layer by layer: tests/engine/test_layer_decay.py
    elif name.endswith('improved'):
        assert sorted(rates) == pytest.approx([rate * .7 ** depth for depth in range(11, -1, -1)]) and decays == {.1}
    else:
        assert (rates, decays) == ({rate}, {1e-4})
    clips = 'videomt' not in name or 'toy' in name
    assert cfg.optim_wrapper.clip_grad == (dict(max_norm=35, norm_type=2) if clips else None)


@pytest.mark.parametrize('name', [name for name in FROZEN if 'r50' in name.lower() and 'maskrcnn' not in name])
def test_batch_norms_of_training_keep_their_statistics(name):
    model = build(name)[1].train()
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == 53 and not any(norm.training for norm in norms)


@pytest.mark.parametrize('name', ['R50_cnp_contrast_ms_1x', 'R50_cnp_contrast_ms_1x_ovis'])
def test_no_batch_norm_of_memcnp_gets_a_gradient(name):
    model = build(name, 'cpu', [('model.backbone.init_cfg', 'None')])[1].train()
    clips = [clip([annotated_frame([[8, 8, 60, 50]]), annotated_frame([[10, 8, 62, 50]])])]
    losses = model(noise(1, 2), clips, 'loss')
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    learnt = {key for key, parameter in model.named_parameters() if parameter.grad is not None}
    convolutions = {key for key, parameter in model.named_parameters() if re.match(r'backbone\.layer[234]', key)
                    and parameter.ndim == 4}
    assert {key for key in learnt if key.startswith('backbone.')} == convolutions


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_numbers_of_the_one_stage_models(name):
    cfg = load_config(CONFIGS[name])
    scale, = [step.scale for step in cfg.test_dataloader.dataset.pipeline if step.type == 'ResizeClip']
    test = cfg.model.bbox_head.test_cfg
    assert (cfg.optim_wrapper.optimizer.lr, cfg.train_dataloader.batch_size, scale[0], test.score_thr,
            test.max_per_img) == PUBLISHED[name]
    assert test.nms_thr == (.65 if name == 'R50_cnp_contrast_ms_1x_ovis' else .5)
    caffe = name in ('sipmask_r50_caffe_fpn_gn_ms_1x', 'sipmask_r50_fpn_gn_ms_1x_ovis', 'R50_cnp_contrast_ms_1x')
    assert (cfg.model.backbone.get('style') == 'caffe') == caffe
    mean = [102.9801, 115.9465, 122.7717] if 'caffe' in name else [123.675, 116.28, 103.53]
    assert cfg.model.data_preprocessor.mean == mean
    assert cfg.optim_wrapper.optimizer.momentum == .9 and cfg.train_cfg.max_epochs == 12
    warm_up, steps = cfg.param_scheduler
    assert (warm_up.start_factor, warm_up.end, steps.milestones) == (1 / 80, 1001, [8, 11])
    datasets = cfg.train_dataloader.dataset.get('datasets', [cfg.train_dataloader.dataset])
    for pipeline in (dataset.pipeline for dataset in datasets):
        steps = {step.type: step for step in pipeline}
        assert steps['RandomResizeClip'].scales == [(640, 360), (960, 480)]
        assert steps['RandomFlipClip'].prob == .5


@pytest.mark.parametrize('name', TWO_STAGE)
def test_published_numbers_of_the_two_stage_models(name):
    cfg = load_config(CONFIGS[name])
    model, (warm_up, steps) = cfg.model, cfg.param_scheduler
    assert (model.rpn_head.sampler.num, model.sampler.num, model.rpn_head.max_per_img,
            model.bbox_head.max_per_img) == TWO_STAGE[name]
    assert (cfg.optim_wrapper.optimizer.lr, cfg.train_dataloader.batch_size) == (.005, 8)
    assert (warm_up.start_factor, warm_up.end, steps.milestones) == (1 / 3, 501, [8, 11])
    assert (model.bbox_head.score_thr, model.bbox_head.nms_thr, model.rpn_head.nms_thr) == (.05, .5, .7)
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        assert next(step for step in loader.dataset.pipeline if 'scale' in step).scale == (640, 360)
