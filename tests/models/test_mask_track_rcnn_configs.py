"""The leaf configs of MaskTrack and CMaskTrack R-CNN: built, trained one step and tested on one clip of toy data."""
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper

from mmdet.apis.config import check_config
from mmdet.datasets.toy import ToyVIS, make_toy_vis
from mmdet.registry import DATASETS, MODELS

CONFIGS = ['masktrack_rcnn_r50_fpn_1x_yvis', 'masktrack_toy_textured', 'cmasktrack_rcnn_r50_fpn_1x_yvis',
           'cmasktrack_rcnn_r50_fpn_1x_ovis']
SIZE = (96, 64)
NARROW = dict(
    backbone=dict(init_cfg=None),
    neck=dict(out_channels=16),
    rpn_head=dict(in_channels=16),
    bbox_head=dict(in_channels=16, fc_channels=32),
    mask_head=dict(in_channels=16),
    track_head=dict(in_channels=16, fc_channels=32))


@pytest.fixture(scope='module', params=CONFIGS)
def cfg(request, tmp_path_factory):
    """A leaf config with narrow layers, on a toy set of its format."""
    root = tmp_path_factory.mktemp('toy')
    form = 'ovis' if request.param.endswith(('ovis', 'textured')) else 'yvis'
    make_toy_vis(root, ToyVIS(videos=1, val_videos=1, frames=3, size=SIZE, format=form), progress=False)
    cfg = Config.fromfile(f'configs/{request.param}.py')
    check_config(cfg)
    cfg.merge_from_dict(dict(model=NARROW))
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(root)
        for step in loader.dataset.pipeline:
            if 'scale' in step:
                step.scale = SIZE
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
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    logs = model.train().train_step(pseudo_collate([data[0], data[1]]), optim_wrapper)
    assert torch.isfinite(logs['loss'])
    for name, value in model.named_parameters():
        if not value.requires_grad:
            assert torch.equal(value, before[name]), name
        elif value.ndim > 1:  # a bias, without decay, stays where no sample reaches it
            assert not torch.equal(value, before[name]), name


def test_one_clip(cfg, model):
    data = DATASETS.build(cfg.test_dataloader.dataset)
    clip, = model.eval().test_step(pseudo_collate([data[0]]))
    assert [frame.frame_id for frame in clip] == list(range(cfg.test_dataloader.dataset.get('clip_len', 1)))[:3]
    assert all('pred_track_instances' in frame for frame in clip)


@pytest.mark.parametrize('config, parameters', [
    ('cmasktrack_rcnn_r50_fpn_1x_yvis', 60_482_647), ('cmasktrack_rcnn_r50_fpn_1x_ovis', 60_401_917)])
def test_published_number_of_parameters(config, parameters):
    model = MODELS.build(Config.fromfile(f'configs/{config}.py').model)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_clips_include_context_frames(cfg):
    dataset = cfg.test_dataloader.dataset.to_dict() | dict(clip_len=1)
    data = DATASETS.build(dataset)
    flags = [[frame.get('is_context', False) for frame in data[index]['data_samples']] for index in range(3)]
    if 'context' in dataset:
        assert flags == [[False, True, True], [True, False, True], [True, True, False]]
    else:
        assert flags == [[False]] * 3
