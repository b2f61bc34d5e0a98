"""``online_memory`` and ``video_memory``: units of each video, written from its confident detections, then read."""
import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from recorded_graph import use_recorded_graphs

from mmdet.errors import UserError
from mmdet.models.layers.pyramid import flatten_levels
from mmdet.models.memory import CNPMemory, unit_sets
from mmdet.models.memory.cnp_memory import address, write, write_weights
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from tests.helpers.models import build_memcnp, memcnp_config

SIZE, LENGTH = (64, 96), 4
SMALL = dict(embed_dims=32, channels=32, test_cfg=dict(score_thr=0.0))


def model_of(kind='online_memory', per_level=False, score_thr=0.0):
    """A model whose class branch depends much on the memory; momentum ½, all detections are confident."""
    torch.manual_seed(0)
    settings = {'online_memory': dict(memory=dict(per_level=per_level, online_memory=dict(score_thr=score_thr,
                                                                                         momentum=0.5))),
                'video_memory': dict(video_memory=dict(score_thr=score_thr)), 'frozen': {}}
    model = build_memcnp(**SMALL, **settings[kind]).eval()
    torch.manual_seed(1)
    for module in (model.bbox_head.mem.mlp.fc1, model.bbox_head.mem.mlp.fc2, model.bbox_head.fcos_reg):
        torch.nn.init.normal_(module.weight, std=0.3)
    return model


def frames_of(video):
    return torch.randn(LENGTH, 3, *SIZE, generator=torch.Generator().manual_seed(video))


def clip_of(video, frame_ids):
    clip = TrackDataSample()
    clip.video_data_samples = [
        DetDataSample(metainfo=dict(video_id=video, frame_id=frame_id, img_shape=SIZE, ori_shape=SIZE,
                                    scale_factor=1.0)) for frame_id in frame_ids]
    return clip


def boxes(clips):
    return [frame.pred_track_instances.bboxes for clip in clips for frame in clip]


def predict(model, video, frame_ids, stream):
    clip = clip_of(video, frame_ids)
    return boxes(model(frames_of(video)[frame_ids][None], [clip], mode='predict', streams=[stream]))


def alone(model, video):
    stream = model.new_stream()
    return [predict(model, video, [frame], stream)[0] for frame in range(LENGTH)]


def equal(ones, others):
    return all(torch.equal(one, other) for one, other in zip(ones, others, strict=True))


@pytest.fixture(scope='module', params=['online_memory', 'video_memory'])
def kind(request):
    return request.param


@pytest.fixture(scope='module')
def model(kind):
    return model_of(kind)


@pytest.fixture(scope='module')
def expected(model):
    return [alone(model, video) for video in range(3)]


def test_confident_detections_are_written_and_the_other_units_stay():
    """Momentum ¾: the unit moves by a quarter towards the mean of two detections."""
    memory = CNPMemory(channels=2, num_units=2, online_memory=dict(score_thr=0.5, momentum=0.75))
    units = torch.tensor([[[1.0, 0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0, 0]]])
    values = torch.tensor([[3.0, 0, 1, 1, 1, 1], [5.0, 0, 3, 3, 3, 3], [0, 9.0, 9, 9, 9, 9]])
    after = memory.write_online(units, values, torch.tensor([0, 2, 1]), torch.tensor([0.9, 0.6, 0.5]))
    assert torch.allclose(after[0, 0], torch.tensor([1.75, 0, 0.5, 0.5, 0.5, 0.5]), atol=1e-5)
    assert torch.equal(after[0, 1], units[0, 1])
    values[0, 0] = torch.nan
    assert torch.equal(memory.write_online(units, values, torch.tensor([0, 2, 1]), torch.ones(3)), units)


@pytest.mark.parametrize('per_level', [False, True])
def test_units_after_a_frame_are_those_of_its_detections(per_level):
    """Features and boxes at the locations of the detections, found again by their scores."""
    model = model_of(per_level=per_level)
    stream, head = model.new_stream(), model.bbox_head
    clip, = model(frames_of(0)[None, :1], [clip_of(0, [0])], mode='predict', streams=[stream])
    found = clip[0].pred_track_instances
    assert len(found) == 10
    with torch.no_grad():
        outputs = head(model.extract_feat(frames_of(0)[:1]))
    scores = (outputs.cls_logits.sigmoid() * outputs.centerness.sigmoid()[..., None])[0, :, found.labels]  # (N, 10)
    location = (scores - found.scores).abs().argmin(dim=0)
    values = torch.cat([flatten_levels(outputs.cls_feats)[0, location], 2 * outputs.means[0, location] - 1], dim=1)
    levels = torch.repeat_interleave(torch.arange(4), torch.tensor([h * w for h, w in outputs.grid.level_sizes]))
    assert len(levels[location].unique()) > 1
    for level, units in enumerate(unit_sets(head.mem).detach()):
        mine = values[levels[location] == level] if per_level else values
        weights = write_weights(address(F.normalize(mine[:, :-4], dim=1), units), 'top1')
        assert torch.allclose(stream.network[level], write(units, weights, mine, 0.5, 'counted'), atol=1e-4)


def test_the_first_frame_reads_the_trained_units_and_later_frames_others(kind, expected):
    frozen = alone(model_of('frozen'), 0)
    assert equal(alone(model_of(kind, score_thr=1.0), 0), frozen)  # nothing is written
    assert torch.equal(frozen[0], expected[0][0])
    assert not any(torch.equal(one, other) for one, other in zip(frozen[1:], expected[0][1:]))


def test_the_trained_units_do_not_change(kind, model, expected):
    assert equal([unit_sets(model.bbox_head.mem)], [unit_sets(model_of(kind).bbox_head.mem)])


def test_interleaved_videos_and_clips_of_several_frames(model, expected):
    streams = [model.new_stream() for _ in range(3)]
    found = [[], [], []]
    for frame in range(LENGTH):
        for video in (2, 0, 1):
            found[video] += predict(model, video, [frame], streams[video])
    assert all(equal(*pair) for pair in zip(found, expected))
    assert equal(predict(model, 1, list(range(LENGTH)), model.new_stream()), expected[1])


def test_clips_of_several_videos_in_one_batch(model, expected):
    inputs = torch.stack([frames_of(video) for video in range(3)])
    clips = model(inputs, [clip_of(video, range(LENGTH)) for video in range(3)], mode='predict')
    assert equal(boxes(clips), [box for video in expected for box in video])


def test_a_used_state_begins_anew_at_frame_0_or_after_a_reset(model, expected):
    stream = model.new_stream()
    predict(model, 1, [0, 1], stream)
    assert equal(predict(model, 0, list(range(LENGTH)), stream), expected[0])
    stream.reset()
    assert stream.network is None


@pytest.mark.parametrize('save', [copy.deepcopy, lambda state: pickle.loads(pickle.dumps(state))],
                         ids=['deepcopy', 'pickle'])
def test_saved_states_continue_the_video(model, expected, save):
    stream = model.new_stream()
    predict(model, 0, [0, 1], stream)
    saved = save(stream)
    predict(model, 0, [2], stream)
    assert equal(predict(model, 0, [2, 3], saved), expected[0][2:])


def test_frames_that_are_launched_before_earlier_ones_are_complete(kind):
    """As in the test loop; frame 0 is complete only after frame 1 has been launched."""
    model = model_of(kind)
    model.data_preprocessor = MODELS.build(memcnp_config()['data_preprocessor'])
    plain, stream = model.new_stream(), model.new_stream()
    images = (torch.rand(LENGTH, 1, 3, *SIZE, generator=torch.Generator().manual_seed(1)) * 255).to(torch.uint8)
    data = [dict(inputs=[images[frame]], data_samples=[clip_of(0, [frame])]) for frame in range(LENGTH)]
    in_turn = [boxes(model.test_step({**batch, 'streams': [plain]})) for batch in data]
    finish, overlapped = None, []
    for batch in data:
        launched = model.start_test_step({**batch, 'streams': [stream]})
        if finish is not None:
            overlapped.append(boxes(finish()))
        finish = launched
    overlapped.append(boxes(finish()))
    assert all(equal(*pair) for pair in zip(in_turn, overlapped, strict=True))


def test_cuda_graphs_take_the_units_as_an_input(monkeypatch, kind, expected):
    model = model_of(kind)
    use_recorded_graphs(monkeypatch)
    for video in (0, 1, 0):  # from the third frame on, the graph is replayed
        for one, other in zip(alone(model, video), expected[video], strict=True):
            assert torch.allclose(one, other, atol=1e-4)
    assert len(model._graphs._graphs) == 1


@pytest.mark.cuda
def test_videos_on_a_gpu_with_and_without_graphs(exact_float32, kind):
    model = model_of(kind).cuda()
    found = {}
    for graphs in (False, True):
        model.cuda_graphs = graphs
        found[graphs] = []
        for video in (0, 1, 0):
            stream = model.new_stream()
            for frame in range(LENGTH):
                result = model(frames_of(video)[frame][None, None].cuda(), [clip_of(video, [frame])], mode='predict',
                               streams=[stream])
                found[graphs] += boxes(result)
                stream = copy.deepcopy(stream)
                assert stream.network.device.type == 'cpu'
    assert all(torch.allclose(*pair, atol=1e-2) for pair in zip(found[False], found[True], strict=True))


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(score=1), "no key 'score'; use score_thr, momentum"),
    (dict(momentum=2), 'online_memory.momentum must be a number from 0 to 1, not 2')])
def test_settings_that_are_none(settings, message):
    with pytest.raises(UserError, match=message):
        CNPMemory(online_memory=settings)
