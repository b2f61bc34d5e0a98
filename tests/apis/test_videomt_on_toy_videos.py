"""VidEoMT from its toy config: trained, resumed, tested, scored; the published schedule and mixture of data."""
import json
from pathlib import Path

import pytest
import torch
from mmengine.device import get_device
from mmengine.visualization import Visualizer

import mmdet.apis
from mmdet.apis import load_config

ON_CPU = get_device() == 'cpu'
ROOT = Path(__file__).resolve().parents[2]
TINY = """
_base_ = '{base}'
model = dict(backbone=dict(embed_dims=32, depth=3, num_heads=1, query_blocks=2, image_size=128),
             head=dict(num_queries=8), criterion=dict(num_points=64), results=dict(max_per_video=5, score_thr=0.0))
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(data_root='{root}'))
val_dataloader = dict(num_workers=0, dataset=dict(data_root='{root}'))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='{root}/annotations/instances_valid.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=2)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1))
"""
PUBLISHED_SCHEDULE = """
optim_wrapper = dict(_delete_=True, type='OptimWrapper', constructor='LayerDecayConstructor',
                     paramwise_cfg=dict(layer_decay_rate=0.6), optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
                     clip_grad=dict(max_norm=1.0))
param_scheduler = [dict(type='WarmupPolyLR', part='other', warmup=1, end=4),
                   dict(type='WarmupPolyLR', part='decayed', delay=1, warmup=1, end=4)]
custom_hooks = [dict(type='EMAHook', momentum=0.5)]
"""


def forget_visualizers():
    """mmengine keeps the first visualiser of a process, and its folder."""
    Visualizer._instance_dict.clear()


@pytest.fixture(autouse=True)
def logs_of_its_own():
    forget_visualizers()


def config_of(folder: Path, toy_root: Path, more: str = '') -> Path:
    path = folder / 'tiny_videomt.py'
    path.write_text(TINY.format(base=ROOT / 'configs/videomt_toy.py', root=toy_root) + more)
    return path


def losses_of(folder: Path) -> list[dict]:
    log, = folder.glob('*/vis_data/[0-9]*.json')
    return [line for line in map(json.loads, log.read_text().splitlines()) if 'loss' in line]


@pytest.fixture(scope='module')
def trained(toy_root, tmp_path_factory):
    """A config, and a folder with the checkpoints of two epochs."""
    folder = tmp_path_factory.mktemp('videomt')
    config = config_of(folder, toy_root)
    forget_visualizers()
    mmdet.apis.train(load_config(config), work_dir=str(folder / 'work'))
    return config, folder / 'work'


def test_training_writes_losses_of_the_final_and_the_auxiliary_prediction(trained):
    lines = losses_of(trained[1])
    assert len(lines) == 4
    for line in lines:
        parts = [line[f'loss_{name}{suffix}'] for name in ('ce', 'mask', 'dice') for suffix in ('', '_0')]
        assert line['loss'] == pytest.approx(sum(parts), rel=1e-4)


def test_a_resumed_training_is_the_same_training(trained, tmp_path):
    config, work = trained
    mmdet.apis.train(load_config(config), work_dir=str(tmp_path), resume_from=str(work / 'epoch_1.pth'))
    first, again = (torch.load(folder / 'epoch_2.pth', weights_only=False)['state_dict']
                    for folder in (work, tmp_path))
    for name, value in first.items():
        # a GPU adds sums up in another order each time
        torch.testing.assert_close(again[name], value, **(dict(atol=1e-6, rtol=1e-5) if ON_CPU
                                                          else dict(atol=1e-2, rtol=1e-2)))


def test_tested_and_scored_like_other_models(trained, toy_root, tmp_path):
    config, work = trained
    out = str(tmp_path / 'out.pkl')
    statistics = mmdet.apis.test(load_config(config), str(work / 'epoch_2.pth'), out=out, metrics=['segm', 'bbox'],
                                 show=True, save_vis_path=str(tmp_path / 'pictures'), thresh=0.01,
                                 work_dir=str(tmp_path / 'logs'))
    assert 0 <= statistics['segm_AP'] <= 1
    entries = json.loads(Path(f'{out}.json').read_text())
    videos = json.loads((toy_root / 'annotations/instances_valid.json').read_text())['videos']
    for video in videos:
        scores = [entry['score'] for entry in entries if entry['video_id'] == video['id']]
        assert len(scores) == 5 and scores == sorted(scores, reverse=True)
    assert all(None not in entry['segmentations'] for entry in entries)
    assert len(list((tmp_path / 'pictures').glob('*.gif'))) == len(videos)
    again = mmdet.apis.test(load_config(config), metrics=['segm', 'bbox'], load_result=out)
    assert again == statistics
    # frame by frame instead of in clips
    frames = str(tmp_path / 'frames.pkl')
    mmdet.apis.test(load_config(config, [('test_dataloader.dataset.clip_len', '1')]), str(work / 'epoch_2.pth'),
                    out=frames, metrics=[], work_dir=str(tmp_path / 'logs'))
    other = json.loads(Path(f'{frames}.json').read_text())
    assert [entry['score'] for entry in other] == pytest.approx([entry['score'] for entry in entries],
                                                                abs=1e-5 if ON_CPU else 1e-2)
    if ON_CPU:
        assert [entry['segmentations'] for entry in other] == [entry['segmentations'] for entry in entries]


def test_the_published_schedule_with_clipping_and_averaged_weights(toy_root, tmp_path):
    config = config_of(tmp_path, toy_root, PUBLISHED_SCHEDULE)
    mmdet.apis.train(load_config(config), work_dir=str(tmp_path / 'work'))
    lines = losses_of(tmp_path / 'work')
    assert [line['lr'] for line in lines] == pytest.approx([0, 1e-3, 1e-3 * (2 / 3) ** 0.9, 1e-3 * (1 / 3) ** 0.9],
                                                           abs=1e-9)
    assert all('grad_norm' in line for line in lines)
    checkpoint = torch.load(tmp_path / 'work/epoch_2.pth', weights_only=False)
    assert 'ema_state_dict' in checkpoint
    statistics = mmdet.apis.test(load_config(config), str(tmp_path / 'work/epoch_2.pth'),
                                 work_dir=str(tmp_path / 'logs'))
    assert 'segm_AP' in statistics


@pytest.mark.slow
def test_coco_images_and_videos_half_and_half(toy_root, tmp_path):
    """The published mixture: two data sets, as many clips from each whatever their sizes, still images that turn."""
    annotations = json.loads((toy_root / 'annotations/instances_train.json').read_text())
    images = [dict(id=number, file_name=video['file_names'][0], height=video['height'], width=video['width'])
              for number, video in enumerate(annotations['videos'], 1)]
    objects = [dict(id=entry['id'], image_id=[video['id'] for video in annotations['videos']].index(
                        entry['video_id']) + 1, category_id=entry['category_id'], iscrowd=0,
                    segmentation=entry['segmentations'][0])
               for entry in annotations['annotations'] if entry['segmentations'][0]]
    coco = tmp_path / 'coco.json'
    coco.write_text(json.dumps(dict(images=images, annotations=objects, categories=annotations['categories'])))
    config = config_of(tmp_path, toy_root, f"""
still = dict(type='COCOVIS', ann_file='{coco}', data_root='{toy_root}', data_prefix=dict(img_path='train_images'),
             train_clip_len=3, pipeline=[*_base_.train_pipeline[:-1], dict(type='RotateStillClip'),
                                         _base_.train_pipeline[-1]])
train_dataloader['dataset'] = dict(
    _delete_=True, type='WeightedConcatDataset', shares=(1, 1),
    datasets=[dict(_base_.train_dataloader.dataset, data_root='{toy_root}', train_clip_len=3), still])
train_cfg = dict(max_epochs=1)
""")
    mmdet.apis.train(load_config(config), work_dir=str(tmp_path / 'work'))
    assert len(losses_of(tmp_path / 'work')) == 3  # 3 videos and 3 of the images, two clips a step
