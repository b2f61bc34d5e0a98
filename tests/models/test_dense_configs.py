"""The leaf configs of MemCNP, SipMask and FCOS with ResNet and ViT: built, trained one step and tested on toy data."""
import json

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from mmdet.apis.config import check_config
from mmdet.datasets.converters.vis_frames import vis_frames_to_coco
from mmdet.datasets.packed_annotations import read_youtube_vis
from mmdet.datasets.toy import ToyVIS, make_toy_vis
from mmdet.registry import DATASETS, METRICS, MODELS

CONFIGS = ['vitmae_cnp_contrast_ms_1x', 'vitmae_cnp_contrast_ms_1x_ovis', 'R50_cnp_contrast_ms_1x',
           'vitmae_cnp_contrast_ms_1x_improved', 'vitmae_cnp_contrast_ms_1x_ovis_improved',
           'R50_cnp_contrast_ms_1x_ovis', 'memcnp_toy', 'memcnp_toy_textured', 'memcnp_toy_textured_improved',
           'memcnp_toy_shapes', 'memcnp_toy_organic', 'memcnp_toy_organic_improved',
           'sipmask_toy_textured', 'sipmask_toy_organic',
           'sipmask_r50_caffe_fpn_gn_ms_1x', 'sipmask_r50_fpn_gn_ms_1x', 'sipmask_r50_fpn_gn_ms_1x_ovis',
           'sipmask_vitmae_ms_1x', 'sipmask_vitmae_ms_1x_ovis', 'fcos_r50_caffe_fpn_gn_1x',
           'fcos_r50_caffe_fpn_gn_1x_improved', 'fcos_vitmae_1x']
SIZE = (128, 96)


def prepare_toy(name: str, root) -> tuple[str, str]:
    """Makes the toy set that a config reads; returns its annotation files for training and testing."""
    form = 'ovis' if any(word in name for word in ('ovis', 'textured', 'organic', 'shapes')) else 'yvis'
    make_toy_vis(root, ToyVIS(videos=1, val_videos=1, frames=3, size=SIZE, format=form), progress=False)
    stem = 'annotations' if form == 'ovis' else 'instances'
    files = [f'annotations/{stem}_{split}.json' for split in ('train', 'valid')]
    if name.startswith('fcos'):
        for file in files:
            content = vis_frames_to_coco(read_youtube_vis(root / file))
            (root / file).write_text(json.dumps(content))
    return tuple(files)


@pytest.fixture(scope='module', params=CONFIGS)
def cfg(request, tmp_path_factory):
    """A leaf config with narrow layers, on a toy set of its format."""
    root = tmp_path_factory.mktemp('toy')
    files = prepare_toy(request.param, root)
    cfg = Config.fromfile(f'configs/{request.param}.py')
    check_config(cfg)
    cfg.merge_from_dict({'model.backbone.init_cfg': None, 'model.neck.out_channels': 64,
                         'model.bbox_head.in_channels': 64, 'model.bbox_head.num_classes': 6,
                         'model.bbox_head.test_cfg.score_thr': 0.001})
    if cfg.model.bbox_head.test_cfg.get('quality_exponent'):
        cfg.model.bbox_head.test_cfg.quality_exponent = 0.0  # masks of random weights may be empty, of quality 0
    if 'pad_buckets' in cfg.model.data_preprocessor:
        cfg.model.data_preprocessor.pad_buckets = [(160, 128)]
    if cfg.model.backbone.type == 'ViT':
        channels = 64 if cfg.model.backbone.get('stem') == 'conv' else 32
        cfg.model.backbone.update(embed_dims=channels, num_heads=2)
        cfg.model.neck.in_channels = [channels] * 3
    for loader, file, split in ((cfg.train_dataloader, files[0], 'train'), (cfg.test_dataloader, files[1], 'valid')):
        loader.dataset.update(data_root=str(root), ann_file=file, data_prefix=dict(img_path=f'{split}_images'))
        for step in loader.dataset.pipeline:
            if step.type == 'ResizeClip':
                step.scale = SIZE
            if 'scales' in step:
                step.scales = [SIZE, (160, 128)]
    cfg.test_evaluator.ann_file = str(root / files[1])
    return cfg


@pytest.fixture(scope='module')
def model(cfg):
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


def test_one_training_step(cfg, model):
    torch.manual_seed(0)
    data = DATASETS.build(cfg.train_dataloader.dataset)
    init_default_scope('mmdet')  # mmengine builds constructors of optimizer wrappers by their names
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    logs = model.train().train_step(pseudo_collate([data[0], data[1]]), optim_wrapper)
    assert torch.isfinite(logs['loss'])
    unused = 'neck.fpn_convs.4.' if cfg.get('find_unused_parameters') else None
    for name, value in model.named_parameters():
        if not value.requires_grad or (unused and name.startswith(unused)):
            assert torch.equal(value, before[name]), name
        elif value.ndim > 1:  # a bias, without decay, stays where no location reaches it
            assert not torch.equal(value, before[name]), name


def test_one_frame(cfg, model):
    one_frame = dict(clip_len=1) if 'clip_len' in cfg.test_dataloader.dataset else {}
    dataset = DATASETS.build({**cfg.test_dataloader.dataset, **one_frame})
    clip, = model.eval().test_step(pseudo_collate([dataset[0]]))
    found = clip[0].pred_track_instances
    assert len(clip) == 1
    assert 0 < len(found) <= cfg.model.bbox_head.test_cfg.max_per_img
    assert ((found.bboxes >= 0) & (found.bboxes <= max(SIZE))).all()
    metric = METRICS.build(cfg.test_evaluator)
    metric.dataset_meta = dataset.metainfo
    metric.process(None, [clip.to_dict()])
    scores = metric.evaluate(len(dataset))
    assert all(-1 <= value <= 1 for value in scores.values())
    assert ('bbox_AP' if cfg.model.type == 'FCOS' else 'segm_AP') in scores


@pytest.mark.parametrize(('config', 'part', 'parameters'), [
    ('sipmask_r50_caffe_fpn_gn_ms_1x', 'bbox_head', 6_056_690), ('sipmask_r50_caffe_fpn_gn_ms_1x', None, 33.43e6)])
def test_published_number_of_parameters(config, part, parameters):
    model = MODELS.build(Config.fromfile(f'configs/{config}.py').model)
    count = sum(parameter.numel() for parameter in (getattr(model, part) if part else model).parameters())
    assert count == (parameters if part else pytest.approx(parameters, abs=0.005e6))
