"""Clips that are launched ahead get the results of test_step to the bit, with CUDA graphs and several videos."""
import copy

import pytest
import torch

from mmdet.engine.test_steps import run_test_steps
from mmdet.errors import UserError
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from tests.helpers.dense import build_fcos
from tests.helpers.models import memcnp_config
from tests.helpers.two_stage import two_stage_config
from tests.helpers.videomt import golden_videomt

pytestmark = pytest.mark.usefixtures('recorded_graphs')

PREPROCESSOR = dict(type='TrackDataPreprocessor')
SIZE = (64, 96)


def memcnp():
    model = MODELS.build(memcnp_config(embed_dims=32, channels=32))
    for name, value in (('fcos_cls', -1.0), ('mask_fuse', 1.0)):
        torch.nn.init.constant_(getattr(model.bbox_head, name).bias, value)
    return model


def masktrack():
    model = MODELS.build(two_stage_config() | dict(data_preprocessor=PREPROCESSOR))
    model.init_weights()
    for module in (model.bbox_head.fc_cls, model.bbox_head.fc_reg, model.mask_head.conv_logits):
        torch.nn.init.normal_(module.weight, std=0.1)
    return model


def videomt():
    return golden_videomt(data_preprocessor=PREPROCESSOR, results=dict(type='QueryTrackResults', score_thr=0.0))


def clip_of(video, frame_ids):
    """A clip of noise that depends on the video and the frame."""
    images, clip = [], TrackDataSample()
    clip.video_data_samples = []
    for frame_id in frame_ids:
        generator = torch.Generator().manual_seed(100 * video + frame_id // 3)
        images.append(torch.randint(256, (3, *SIZE), generator=generator, dtype=torch.uint8))
        clip.video_data_samples.append(DetDataSample(metainfo=dict(
            video_id=video, frame_id=frame_id, ori_shape=(48, 72), img_shape=SIZE, scale_factor=96 / 72)))
    return torch.stack(images), clip


def batches(model, clip_len):
    """Three clips of each of two videos, alternating; the last batch has a clip of each."""
    streams = [model.new_stream() for _ in range(2)]
    numbers = [(0, [0]), (0, [1]), (1, [0]), (1, [1]), (2, [0, 1])]
    for number, videos in numbers:
        clips = [clip_of(video, range(number * clip_len, (number + 1) * clip_len)) for video in videos]
        yield {'inputs': [images for images, _ in clips], 'data_samples': [clip for _, clip in clips],
               'streams': [streams[video] for video in videos]}


def everything(steps):
    """All results as plain values."""
    return [(frame.video_id, frame.frame_id,
             {name: value.tolist() if isinstance(value, torch.Tensor) else value
              for name, value in frame.pred_track_instances.items()})
            for _, clips in steps for clip in clips for frame in clip]


@pytest.mark.parametrize(('build', 'clip_len'), [(memcnp, 1), (memcnp, 3), (masktrack, 1), (videomt, 2)])
def test_results_are_equal_to_the_bit(build, clip_len, device):
    torch.manual_seed(0)
    model = build().to(device).eval()
    plain, ahead = (everything(run_test_steps(twin, batches(twin, clip_len), overlap=overlap))
                    for twin, overlap in ((copy.deepcopy(model), False), (model, True)))
    assert ahead == plain and len(plain) == 6 * clip_len
    assert any(found['masks'] for _, _, found in plain)
    assert len({str(found['scores']) for _, _, found in plain}) > 1  # clips differ, so that an exchange is noticed


@pytest.mark.cuda
@pytest.mark.parametrize('clip_len', [1, 8])
def test_half_precision_and_graphs_are_equal_to_the_bit(clip_len):
    torch.manual_seed(0)
    model = memcnp().cuda().eval()
    model.halve_weights()
    plain, ahead = (everything(run_test_steps(twin, batches(twin, clip_len), torch.bfloat16, overlap))
                    for twin, overlap in ((copy.deepcopy(model), False), (model, True)))
    assert ahead == plain and model._graphs._graphs


@pytest.mark.cuda
def test_results_are_not_read_before_they_are_computed():
    """The GPU is busy when a clip is launched, and its results are read while a later clip is computed."""
    torch.manual_seed(0)
    model = memcnp().cuda().eval()
    expected = everything(run_test_steps(copy.deepcopy(model), batches(model, 3), overlap=False))

    def slowed():
        for batch in batches(model, 3):
            torch.cuda._sleep(50_000_000)
            yield batch

    assert everything(run_test_steps(model, slowed(), overlap=True)) == expected


def test_images_are_launched_ahead(device):
    """The network is one graph per shape; NMS, which synchronises with the GPU, is left to the second half."""
    model = build_fcos().eval()
    model.data_preprocessor = MODELS.build(PREPROCESSOR)
    torch.nn.init.constant_(model.bbox_head.fcos_cls.bias, 0.0)
    model.to(device)
    eager = copy.deepcopy(model)
    eager.cuda_graphs = False
    clips = [clip_of(3 * video, [0]) for video in range(3)]
    given = [{'inputs': [images], 'data_samples': [clip]} for images, clip in clips]
    plain, ahead, without = ([clip[0].pred_track_instances.scores.tolist() for _, (clip,) in
                              run_test_steps(twin, given, overlap=overlap)]
                             for twin, overlap in ((copy.deepcopy(model), False), (model, True), (eager, False)))
    assert ahead == plain and len({str(scores) for scores in plain}) == 3
    for mine, theirs in zip(plain, without, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)
    assert len(model._graphs._graphs) == 1 and not eager._graphs._graphs
    model.halve_weights()
    assert not model._graphs._graphs


def test_states_after_a_video_are_equal():
    torch.manual_seed(0)
    model = memcnp().eval()
    states = []
    for overlap in (False, True):
        given = list(batches(model, 2))
        everything(run_test_steps(model, given, overlap=overlap))
        states.append([{name: value.tolist() if hasattr(value, 'tolist') else value
                        for name, value in vars(state).items()} for state in given[-1]['streams']])
    assert states[0] == states[1] and states[0][0]['frame_id'] == 5


def test_an_error_while_tracking_comes_after_the_earlier_clips(monkeypatch):
    model = memcnp().eval()
    track, seen, found = model.tracker.track, [], []

    def failing(instances, state):
        seen.append(None)
        if len(seen) == 4:
            raise UserError('frame 4')
        return track(instances, state)

    monkeypatch.setattr(model.tracker, 'track', failing)
    with pytest.raises(UserError, match='frame 4'):
        for _, clips in run_test_steps(model, batches(model, 1), overlap=True):
            found += clips
    assert len(found) == 3 and len(seen) == 4


def test_a_model_without_halves_runs_as_a_whole():
    model = torch.nn.Linear(1, 1)
    model.test_step = lambda data: [data['x']]
    steps = run_test_steps(model, [{'x': 1}, {'x': 2}], overlap=True)
    assert [clips for _, clips in steps] == [[1], [2]]
