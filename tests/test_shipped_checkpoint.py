"""The model in checkpoints/: small, plain weights, and accurate on data like its training data."""
from pathlib import Path

import torch

from mmdet.apis import VideoInferencer
from mmdet.datasets.toy import ToyVIS, make_toy_vis
from mmdet.datasets.toy.toy_shapes import SHAPES
from mmdet.registry import METRICS

CONFIG, CHECKPOINT = 'configs/memcnp_toy_shapes.py', Path('checkpoints/memcnp_toy_shapes.pth')


def test_it_is_small_and_holds_half_precision_weights_only():
    assert CHECKPOINT.stat().st_size <= 20e6
    loaded = torch.load(CHECKPOINT, weights_only=True)
    assert 'optimizer' not in loaded
    assert {weight.dtype for weight in loaded['state_dict'].values() if weight.is_floating_point()} == {torch.float16}


def test_it_finds_objects_of_videos_that_training_never_saw(tmp_path):
    files = make_toy_vis(tmp_path, ToyVIS(videos=0, val_videos=2, frames=2, size=(480, 270), format='ovis'),
                         progress=False)
    metric = METRICS.build(dict(type='YouTubeVISMetric', ann_file=str(files['valid'])))
    inferencer = VideoInferencer(CONFIG, str(CHECKPOINT), device='cpu', batch=2)
    assert inferencer.class_names == tuple(SHAPES)[:6]
    for index, folder in enumerate(sorted((tmp_path / 'valid_images').iterdir()), start=1):
        for clip in inferencer(folder, thresh=0.0):
            for frame in clip:
                frame.set_metainfo(dict(video_id=index))
            metric.process(None, [dict(video_data_samples=list(clip))])
    assert metric.evaluate(2)['segm_AP50'] > 0.5
