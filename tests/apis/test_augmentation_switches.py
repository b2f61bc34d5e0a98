"""Fragments of configs with the augmentation of clips and averaged weights: each part is a switch."""
from pathlib import Path

import pytest
import torch

from mmdet.apis import load_config
from mmdet.datasets import SeededIndex
from mmdet.registry import DATASETS

BASES = Path(__file__).resolve().parents[2] / 'configs/_base_'
AUGMENTED = ['RandomScaleCropClip', 'CopyPasteClip', 'PhotometricDistortClip']


@pytest.fixture(params=['toy_textured', 'toy_organic'])
def config(request, tmp_path):
    parts = ['models/memcnp_vit', f'datasets/{request.param}_improved', 'schedules/adamw_toy',
             'schedules/averaged_weights', 'default_runtime']
    path = tmp_path / 'improved.py'
    path.write_text(f'_base_ = {[str(BASES / f"{part}.py") for part in parts]}\n')
    return path


def middle(path, *options):
    """Return the transforms between loading and flipping, and the config."""
    cfg = load_config(path, [option.split('=') for option in options])
    steps = cfg.train_dataloader.dataset.pipeline
    names = [step['type'] for step in steps]
    assert names[:3] == ['LoadTrackFrames', 'LoadTrackAnnotations', 'ResizeClip']
    assert names[-2:] == ['RandomFlipClip', 'PackTrackInputs']
    return {step['type']: step for step in steps[3:-2]}, cfg


def test_all_parts_are_on(config):
    steps, cfg = middle(config)
    assert list(steps) == AUGMENTED
    assert cfg.custom_hooks == [dict(type='EMAHook', momentum=.002)]
    assert [step['type'] for step in cfg.test_dataloader.dataset.pipeline] == [
        'LoadTrackFrames', 'ResizeClip', 'PackTrackInputs']


@pytest.mark.parametrize('option, left', [
    ('scale_jitter=0', AUGMENTED[1:]), ('copy_paste=0', [AUGMENTED[0], AUGMENTED[2]]), ('photometric=0', AUGMENTED[:2]),
    ('motion=0.5', [*AUGMENTED[:2], 'AffineMotionClip', AUGMENTED[2]])])
def test_a_probability_switches_a_part(config, option, left):
    assert list(middle(config, option)[0]) == left


def test_other_values_and_no_average(config):
    steps, cfg = middle(config, 'scale_range=[0.3,2]', 'crop_size=[640,384]', 'pasted_objects=1', 'ref_range=[2,8]',
                        'ema_momentum=0', 'channel_swap=0.5', 'photometric=0')
    assert (steps['RandomScaleCropClip'].scale, steps['RandomScaleCropClip'].size) == ([.3, 2], [640, 384])
    assert steps['CopyPasteClip'].max_objects == 1 and steps['PhotometricDistortClip'].channel_prob == .5
    assert cfg.train_dataloader.dataset.ref_range == [2, 8] and cfg.custom_hooks == []


def test_all_switches_off_leave_the_published_pipeline(config):
    name = load_config(config).train_dataloader.dataset.data_root.split('/')[1]
    steps, cfg = middle(config, 'scale_jitter=0', 'copy_paste=0', 'photometric=0')
    plain = load_config(BASES.parent / f'memcnp_{name}.py')
    assert not steps and cfg.train_dataloader.dataset.pipeline == plain.train_dataloader.dataset.pipeline


def test_clips_of_the_whole_pipeline(config, toy_root):
    """All samples have the same size; ids are unique, and the frames of a pair share some of them."""
    _, cfg = middle(config, 'copy_paste=1.0', 'motion=0.5', 'crop_size=[160,96]')
    options = cfg.train_dataloader.dataset
    options.update(type='mmdet.YVISDataset', data_root=str(toy_root), ann_file='annotations/instances_train.json',
                   num_classes=None)
    dataset, shared = DATASETS.build(options), 0
    for seed in range(12):
        item = dataset[SeededIndex(seed % len(dataset), (seed,))]
        assert item['inputs'].shape == (2, 3, 96, 160) and item['inputs'].dtype == torch.uint8
        ids = []
        for frame in item['data_samples']:
            found = frame.gt_instances
            assert frame.img_shape == (96, 160) and found.masks.shape[1:] == (96, 160)
            assert len(found.bboxes) == len(found.labels) == len(found.masks) == len(set(found.instances_id.tolist()))
            ids.append(set(found.instances_id.tolist()))
        shared += bool(ids[0] & ids[1])
    assert shared > 8
