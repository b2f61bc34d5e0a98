"""Testing and validating several videos at once gives the ids that each video has alone."""
import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric

from mmdet.apis import load_config
from mmdet.engine import VideoRunner
from mmdet.errors import UserError
from mmdet.registry import DATA_SAMPLERS, METRICS

FRAMES = 4  # of each of the two toy videos


@DATA_SAMPLERS.register_module()
class OrderSampler(list):
    """The items in the order given."""

    def __init__(self, dataset, order, seed=None):
        super().__init__(order)


@METRICS.register_module()
class IdMetric(BaseMetric):
    """Writes down the ids of each frame."""

    default_prefix = ''

    def process(self, data_batch, data_samples):
        self.results += [{f'{frame.video_id} {frame.frame_id}': frame.pred_track_instances.instances_id.tolist()
                          for frame in clip['video_data_samples']} for clip in data_samples]

    def compute_metrics(self, results):
        return {'ids': dict(item for clip in results for item in clip.items())}


def runner_of(toy_config, folder, batch_size, order=None, clip_len=1, loop='test'):
    cfg = load_config(toy_config)
    loader = dict(batch_size=batch_size, num_workers=0, dataset=cfg.test_dataloader.dataset | dict(clip_len=clip_len),
                  sampler=dict(type='VideoSampler') if order is None else dict(type='OrderSampler', order=order))
    settings = {f'{loop}_dataloader': loader, f'{loop}_cfg': cfg[f'{loop}_cfg'],
                f'{loop}_evaluator': dict(type='IdMetric')}
    runner = VideoRunner(model=cfg.model, work_dir=str(folder), default_scope='mmdet', log_level='ERROR',
                         randomness=dict(seed=0),
                         experiment_name=f'{folder.parent.name}_{folder.name}_{loop}', **settings)
    torch.nn.init.constant_(runner.model.bbox_head.fcos_cls.bias, -1.0)
    return runner


@pytest.fixture(scope='module')
def expected(toy_config, tmp_path_factory):
    """Ids by video and frame, one clip after the other."""
    ids = runner_of(toy_config, tmp_path_factory.mktemp('alone'), 1).test()['ids']
    assert len(ids) == 2 * FRAMES
    videos = {name.split()[0] for name in ids}
    assert all(set(ids[f'{video} 0']) & set(ids[f'{video} {FRAMES - 1}']) for video in videos)  # tracks go on
    return ids


TURNS = np.arange(2 * FRAMES).reshape(2, FRAMES).T.flatten().tolist()  # frame 0 of both videos, frame 1 of both, …


@pytest.mark.parametrize(('batch_size', 'order'), [(1, TURNS), (2, TURNS), (3, TURNS), (3, None), (8, None)],
                         ids=['in turns', 'two videos', 'uneven', 'in order', 'all at once'])
def test_batches_of_several_videos(toy_config, tmp_path, expected, batch_size, order):
    assert runner_of(toy_config, tmp_path, batch_size, order).test()['ids'] == expected


def test_clips_of_unequal_length(toy_config, tmp_path, expected):
    """Clips of 3 frames and of 1 in a batch of 4."""
    assert runner_of(toy_config, tmp_path, 4, clip_len=3).test()['ids'] == expected


def test_validation(toy_config, tmp_path, expected):
    assert runner_of(toy_config, tmp_path, 2, TURNS, loop='val').val()['ids'] == expected


def test_frames_out_of_order_are_refused(toy_config, tmp_path):
    for number, (order, words) in enumerate((([1, 0], 'begins with frame 1 of video .* and has no stream state'),
                                             ([0, 2, 1], 'given a stream state that is at frame 2'))):
        with pytest.raises(UserError, match=words):
            runner_of(toy_config, tmp_path / str(number), 1, order).test()
