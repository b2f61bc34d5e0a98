"""Several videos through one model at the same time: iterators in turns, threads, inferencers, frames one by one."""
import copy
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmdet.apis import VideoInferencer, init_model
from mmdet.errors import UserError
from mmdet.registry import MODELS
from tests.helpers.dense import build_fcos
from tests.helpers.two_stage import two_stage_config
from tests.helpers.videomt import golden_videomt

LENGTHS = (4, 3, 4)


def video(seed):
    """Frames of noise that changes slowly."""
    rng = np.random.default_rng(seed)
    base, drift = rng.integers(0, 200, (2, 72, 128, 3))
    return [np.clip(base + frame * 0.15 * (drift - base), 0, 255).astype(np.uint8) for frame in range(LENGTHS[seed])]


def ids_of(clips):
    return [frame.pred_track_instances.instances_id.tolist() for clip in clips for frame in clip]


def memcnp(toy_config):
    torch.manual_seed(0)
    model = init_model(toy_config, device='cpu')
    torch.nn.init.constant_(model.bbox_head.fcos_cls.bias, -1.0)
    return model


def cmasktrack():
    """CMaskTrack R-CNN, whose clips bring a frame of context on either side."""
    torch.manual_seed(0)
    model = MODELS.build(two_stage_config(calibrated=True, window=1) | dict(
        data_preprocessor=dict(type='TrackDataPreprocessor')))
    model.init_weights()
    for module in (model.bbox_head.fc_cls, model.bbox_head.fc_reg, model.mask_head.conv_logits):
        torch.nn.init.normal_(module.weight, std=0.1)
    pipeline = [dict(type='LoadTrackFrames'), dict(type='ResizeClip', scale=(96, 64)), dict(type='PackTrackInputs')]
    model.cfg = Config(dict(test_dataloader=dict(dataset=dict(pipeline=pipeline, context=1))))
    model.dataset_meta = {}
    return model.eval()


def videomt():
    """VidEoMT, whose queries pass from frame to frame in the network itself."""
    model = golden_videomt(data_preprocessor=dict(type='TrackDataPreprocessor'),
                           results=dict(type='QueryTrackResults', score='mean', score_thr=0.0))
    pipeline = [dict(type='LoadTrackFrames'), dict(type='ResizeClip', scale=(96, 64)), dict(type='PackTrackInputs')]
    model.cfg = Config(dict(test_dataloader=dict(dataset=dict(pipeline=pipeline))))
    model.dataset_meta = {}
    return model.eval()


@pytest.fixture(scope='module', params=['memcnp', 'memcnp amp', 'cmasktrack', 'videomt'])
def inferencer(request, toy_config):
    model = {'cmasktrack': cmasktrack, 'videomt': videomt}.get(request.param, lambda: memcnp(toy_config))()
    return VideoInferencer(model, amp='amp' in request.param, max_size=96)


@pytest.fixture(scope='module')
def alone(inferencer):
    """Ids of each video, one after the other."""
    ids = [ids_of(inferencer(video(seed), thresh=0.0)) for seed in range(3)]
    assert all(set(frames[0]) & set(frames[-1]) for frames in ids)  # tracks go on
    return ids


def test_iterators_in_turns(inferencer, alone):
    iterators = [inferencer(video(seed), thresh=0.0) for seed in range(3)]
    clips = list(zip_longest(*iterators, fillvalue=()))
    assert [[ids for turn in clips for ids in ids_of([turn[seed]])] for seed in range(3)] == alone


def test_threads_on_one_inferencer(inferencer, alone):
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda seed: ids_of(inferencer(video(seed), thresh=0.0)), range(3))) == alone


def test_two_inferencers_on_one_model(inferencer, alone):
    other = VideoInferencer(inferencer.model, amp=inferencer._amp is not None, batch=2, max_size=96)
    first, second = inferencer(video(0), thresh=0.0), other(video(1), thresh=0.0)
    ids = [[], []]
    for clips in zip_longest(first, second, fillvalue=()):
        for found, clip in zip(ids, clips):
            found += ids_of([clip])
    assert ids == alone[:2]


def test_clips_that_are_launched_ahead(inferencer, alone):
    ahead = VideoInferencer(inferencer.model, amp=inferencer._amp is not None, batch=2, max_size=96, overlap=True)
    iterators = [ahead(video(seed), thresh=0.0) for seed in range(3)]
    clips = list(zip_longest(*iterators, fillvalue=()))
    assert [[ids for turn in clips for ids in ids_of([turn[seed]])] for seed in range(3)] == alone


def test_a_video_that_was_left_does_not_disturb_the_next(inferencer, alone):
    left = inferencer(video(1), thresh=0.0)
    next(left)
    assert ids_of(inferencer(video(0), thresh=0.0)) == alone[0]
    left.close()


def test_the_state_ends_with_the_video(toy_config, monkeypatch):
    inferencer = VideoInferencer(memcnp(toy_config), max_size=96)
    states = []
    new_stream = inferencer.model.new_stream
    monkeypatch.setattr(inferencer.model, 'new_stream', lambda: states.append(new_stream()) or states[-1])
    results = list(inferencer(video(0), thresh=0.0))
    reference = weakref.ref(states.pop())
    gc.collect()
    assert results and reference() is None


# ---------------------------------------------------------------------------------------------------------------------
# Frames one by one


@pytest.fixture(scope='module')
def online(toy_config):
    return VideoInferencer(memcnp(toy_config), max_size=96)


def test_frames_one_by_one_of_several_videos_in_a_batch(online):
    videos = [video(seed)[:3] for seed in range(3)]
    streams = [online.new_stream() for _ in videos]
    found = [online.track(images, streams, thresh=0.0) for images in zip(*videos)]
    for seed, images in enumerate(videos):
        frames = [frames[seed] for frames in found]
        assert [frame.frame_id for frame in frames] == [0, 1, 2]
        assert all(np.array_equal(frame.ori_img, image) for frame, image in zip(frames, images))
        assert ids_of([frames]) == ids_of(online(images, thresh=0.0))


def test_a_stream_is_saved_and_continued(online):
    frames, stream = video(0), online.new_stream()
    for image in frames[:2]:
        online.track([image], [stream], thresh=0.0)
    saved = copy.deepcopy(stream)
    runs = [ids_of([online.track([image], [state], thresh=0.0) for image in frames[2:]]) for state in (stream, saved)]
    assert runs[0] == runs[1] == ids_of(online(frames, thresh=0.0))[2:]


def test_images_of_other_sizes_share_no_batch(online):
    small, large = video(0)[0], np.ascontiguousarray(video(1)[0].repeat(2, 0).repeat(2, 1)[:, :200])
    together = online.track([small, large], [online.new_stream(), online.new_stream()], thresh=0.0)
    for frame, image in zip(together, (small, large)):
        single, = online.track([image], [online.new_stream()], thresh=0.0)
        assert torch.equal(frame.pred_track_instances.bboxes, single.pred_track_instances.bboxes)
        assert frame.ori_shape == image.shape[:2]


def test_thresholds_of_frames(online):
    frame, = online.track([video(0)[0]], [online.new_stream()], thresh=1.0)
    assert len(frame.pred_track_instances) == 0
    assert online.track([], []) == []


def test_what_is_no_frame_is_one_line(online):
    stream, image = online.new_stream(), video(0)[0]
    for images, streams, words in (
            ([image, image], [stream, stream], 'given: 2 images and 2 stream states'),
            ([image], [], 'given: 1 image and 0 stream states'),
            ([image / 255], [stream], 'frame 0 is an array of float64'),
            (image, [stream], 'given: 72 images and 1 stream state;')):
        with pytest.raises(UserError, match=words):
            online.track(images, streams)
    assert stream.frame_id == -1


# ---------------------------------------------------------------------------------------------------------------------
# Models that cannot be used


def test_a_model_of_half_precision_needs_amp(toy_config):
    half = VideoInferencer(toy_config, device='cpu', amp=True)
    with pytest.raises(UserError, match='weights of half precision'):
        VideoInferencer(half.model)
    assert len(ids_of(VideoInferencer(half.model, amp=True)(video(0)[:1]))) == 1


def test_amp_leaves_a_model_that_was_given_as_it_is(toy_config):
    model = memcnp(toy_config)
    exact = ids_of(VideoInferencer(model)(video(0), thresh=0.0))
    VideoInferencer(model, amp=True)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert ids_of(VideoInferencer(model)(video(0), thresh=0.0)) == exact


def test_a_detector_of_images_is_refused_at_once():
    model = build_fcos().eval()
    model.cfg = Config(dict(test_dataloader=dict(dataset=dict(pipeline=[]))))
    model.dataset_meta = {}
    with pytest.raises(UserError, match='FCOS finds objects in single images and does not track them'):
        VideoInferencer(model)
