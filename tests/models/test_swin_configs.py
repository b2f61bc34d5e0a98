"""The Swin configs with few channels: strides equal the head's; one training step and one test frame run."""
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope

from mmdet.apis.config import load_config
from mmdet.registry import MODELS
from tools.analysis_tools.measures.synthetic import synthetic_clips

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
SIZE = (64, 96)


@pytest.mark.parametrize('name', [
    'swin-s_fpn_ms_1x', 'swin-s_fpn_ms_1x_4lvls', 'swin-s_swinfpn_ms_1x', 'swin-L_fpn_4lvls'])
def test_trains_and_predicts(name):
    torch.manual_seed(0)
    cfg = load_config(CONFIGS / f'sipmask_{name}.py').model
    cfg.data_preprocessor = None
    cfg.backbone.update(embed_dims=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), init_cfg=None)
    cfg.neck.update(in_channels=[16, 32, 64, 128], out_channels=64)
    if 'num_heads' in cfg.neck:
        cfg.neck.num_heads = (8, 4, 2)
    cfg.bbox_head.update(in_channels=64)
    cfg.bbox_head.test_cfg.score_thr = 0.
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg)
    inputs, clips = synthetic_clips(1, 2, SIZE, num_objects=2)
    maps = model.neck(model.backbone(inputs[0, :1]))
    assert [tuple(m.shape[-2:]) for m in maps] == [
        (-(-SIZE[0] // stride), -(-SIZE[1] // stride)) for stride in cfg.bbox_head.strides]
    losses = model.train()(inputs, clips, mode='loss')
    total = sum(value for key, value in losses.items() if 'loss' in key)
    total.backward()
    assert torch.isfinite(total)
    assert sum(float(p.grad.abs().sum()) for p in model.backbone.parameters() if p.grad is not None) > 0
    inputs, clips = synthetic_clips(1, 1, SIZE)
    with torch.no_grad():
        clip = model.eval()(inputs, clips, mode='predict')[0]
    instances = clip[0].pred_track_instances
    assert 0 < len(instances.bboxes) <= cfg.bbox_head.test_cfg.max_per_img
    assert instances.instances_id.tolist() == list(range(len(instances.bboxes)))
