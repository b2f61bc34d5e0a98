"""Streams that share a model, in every detector: interleaved, batched, threaded and restored, each has its own ids."""
import copy
import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.errors import UserError
from mmdet.models.trackers import TrackState
from mmdet.structures import DetDataSample, StreamState, TrackDataSample, VideoStreams
from tests.helpers.dense import build_fcos, build_sipmask
from tests.helpers.models import build_memcnp
from tests.helpers.two_stage import SIZE, build_two_stage

LENGTH = 4


def two_stage(calibrated):
    model = build_two_stage(calibrated=calibrated)
    torch.manual_seed(1)
    for module in (model.bbox_head.fc_cls, model.bbox_head.fc_reg, model.mask_head.conv_logits):
        torch.nn.init.normal_(module.weight, std=0.1)
    return model


BUILDERS = {
    'memcnp': lambda: build_memcnp(embed_dims=32, channels=32, test_cfg=dict(score_thr=0.0)),
    'memcnp with an online memory': lambda: build_memcnp(
        embed_dims=32, channels=32, test_cfg=dict(score_thr=0.0), memory=dict(online_memory=dict(score_thr=0.0))),
    'sipmask': lambda: build_sipmask(embed_dims=32, channels=32, test_cfg=dict(score_thr=0.0)),
    'masktrack': lambda: two_stage(False),
    'cmasktrack': lambda: two_stage(True)}


@pytest.fixture(scope='module', params=BUILDERS)
def model(request):
    torch.manual_seed(0)
    return BUILDERS[request.param]().eval()


def images(video):
    """(LENGTH, 3, H, W) of a video: noise with more and more other noise."""
    base, drift = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(video))
    return torch.stack([base + 0.2 * frame * drift for frame in range(LENGTH)])


def clip_of(video, frame_ids):
    clip = TrackDataSample()
    clip.video_data_samples = [
        DetDataSample(metainfo=dict(video_id=video, frame_id=frame_id, video_length=LENGTH, img_shape=SIZE,
                                    ori_shape=(2 * SIZE[0], 2 * SIZE[1]), scale_factor=0.5)) for frame_id in frame_ids]
    return clip


def predict(model, videos, frame_ids, streams=None):
    """Ids of the clips of these frames of several videos, in one batch: [video][frame]."""
    inputs = torch.stack([images(video)[frame_ids] for video in videos]).to(next(model.parameters()).device)
    clips = model(inputs, [clip_of(video, frame_ids) for video in videos], mode='predict', streams=streams)
    return [[frame.pred_track_instances.instances_id.tolist() for frame in clip] for clip in clips]


def alone(model, video):
    """Ids of a video, frame by frame, with nothing beside it."""
    stream = model.new_stream()
    return [predict(model, [video], [frame], [stream])[0][0] for frame in range(LENGTH)]


@pytest.fixture(scope='module')
def expected(model):
    """Ids of three videos, each alone."""
    return [alone(model, video) for video in range(3)]


def test_ids_persist_from_frame_to_frame(model, expected):
    """Precondition of the tests below, which could not fail otherwise."""
    for ids in expected:
        assert all(set(later) & set(ids[0]) for later in ids[1:])
        assert sorted(ids[0]) == list(range(len(ids[0])))


def test_the_state_of_another_video_gives_other_ids(model, expected):
    stream = model.new_stream()
    predict(model, [0], [0], [stream])
    stream.video_id = 1  # deceive the check
    assert predict(model, [1], [1], [stream])[0][0] != expected[1][1]


def test_interleaved_streams(model, expected):
    streams = [model.new_stream() for _ in range(3)]
    ids = [[], [], []]
    for frame in range(LENGTH):
        for video in (2, 0, 1):
            ids[video].append(predict(model, [video], [frame], [streams[video]])[0][0])
    assert ids == expected


def test_streams_in_one_batch(model, expected):
    streams = [model.new_stream() for _ in range(3)]
    ids = [[], [], []]
    for frame in range(LENGTH):
        for video, found in enumerate(predict(model, range(3), [frame], streams)):
            ids[video] += found
    assert ids == expected


def test_clips_of_one_video_in_one_batch(model, expected):
    stream = model.new_stream()
    clips = [clip_of(0, [frame]) for frame in range(LENGTH)]
    result = model(images(0)[:, None], clips, mode='predict', streams=[stream] * LENGTH)
    assert [clip[0].pred_track_instances.instances_id.tolist() for clip in result] == expected[0]


def test_threads(model, expected):
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda video: alone(model, video), [0, 1, 2])) == expected


@pytest.mark.parametrize('save', [copy.deepcopy, lambda state: pickle.loads(pickle.dumps(state))],
                         ids=['deepcopy', 'pickle'])
def test_a_saved_state_continues_the_video(model, expected, save):
    stream = model.new_stream()
    for frame in (0, 1):
        predict(model, [0], [frame], [stream])
    saved = save(stream)
    first = [predict(model, [0], [frame], [stream])[0][0] for frame in (2, 3)]
    again = [predict(model, [0], [frame], [saved])[0][0] for frame in (2, 3)]
    assert first == again == expected[0][2:]


def test_reset_and_frame_0_start_a_new_video(model, expected):
    stream = model.new_stream()
    predict(model, [1], [0], [stream])
    assert predict(model, [0], [0], [stream])[0][0] == expected[0][0]
    stream.reset()
    assert vars(stream).keys() == vars(model.new_stream()).keys() and len(stream.ids) == 0
    assert (stream.frame_id, stream.next_id, stream.video_id) == (-1, 0, None)


def test_without_states_clips_must_begin_with_frame_0(model, expected):
    assert [ids[0] for ids in predict(model, [0, 1], [0])] == [expected[0][0], expected[1][0]]
    with pytest.raises(UserError, match='begins with frame 2 of video 1 and has no stream state') as raised:
        predict(model, [1], [2])
    assert '\n' not in str(raised.value)


def test_frames_out_of_order_and_states_of_other_videos_are_errors(model):
    stream = model.new_stream()
    predict(model, [0], [2], [stream])  # a stream may begin anywhere
    with pytest.raises(UserError, match='frame 1 of video 0 was given a stream state that is at frame 2'):
        predict(model, [0], [1], [stream])
    with pytest.raises(UserError, match='frame 3 of video 1 was given the stream state of video 0'):
        predict(model, [1], [3], [stream])
    assert stream.frame_id == 2


def test_the_model_holds_no_state_of_a_stream(model):
    stream = model.new_stream()
    predict(model, [0], [0], [stream])
    reference = weakref.ref(stream)
    del stream
    gc.collect()
    assert reference() is None


def test_copies_of_a_model_run_independently(model, expected):
    """Copies have a new lock, since locks cannot be copied."""
    assert alone(copy.deepcopy(model), 0) == alone(pickle.loads(pickle.dumps(model)), 0) == expected[0]


@pytest.mark.cuda
@pytest.mark.parametrize('amp', [False, True])
def test_threads_on_a_gpu_share_the_buffers_of_cuda_graphs(model, amp):
    """Ids of four threads that capture and replay graphs; the videos repeat, so that graphs are replayed."""
    on_gpu = copy.deepcopy(model).cuda()

    def run(video):
        with torch.autocast('cuda', torch.bfloat16, enabled=amp):
            return [alone(on_gpu, video) for _ in range(4)]

    one_by_one = [run(video) for video in range(4)]
    fresh = copy.deepcopy(on_gpu)  # without graphs: they are captured by the threads
    on_gpu = fresh
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(4))) == one_by_one


def test_a_detector_of_images_has_no_state():
    model = build_fcos().eval()
    assert model.new_stream() is None
    clips = model(images(0)[None, 2:3], [clip_of(0, [2])], mode='predict')
    assert 'instances_id' not in clips[0][0].pred_track_instances


# ---------------------------------------------------------------------------------------------------------------------
# Batches as the data loader makes them


@pytest.fixture(scope='module')
def whole_model():
    """MemCNP with a data preprocessor."""
    from mmdet.registry import MODELS
    from tests.helpers.models import memcnp_config
    torch.manual_seed(0)
    return MODELS.build(memcnp_config(embed_dims=32, channels=32, test_cfg=dict(score_thr=0.0))).eval()


def loaded(video, frame_ids, size=SIZE):
    """uint8 images (T, 3, *size) and the clip."""
    pixels = torch.randint(0, 256, (LENGTH, 3, *size), dtype=torch.uint8,
                           generator=torch.Generator().manual_seed(video))
    clip = clip_of(video, frame_ids)
    for frame in clip:
        frame.set_metainfo(dict(img_shape=size, ori_shape=size, scale_factor=1.0))
    return pixels[frame_ids], clip


def test_batches_of_clips_of_other_lengths_and_sizes(whole_model):
    """Results of a clip do not depend on the batch, though frames are padded to the largest size of a batch."""
    parts = [loaded(0, [0, 1, 2]), loaded(1, [0]), loaded(2, [0, 1, 2], (64, 160))]
    inputs, clips = zip(*parts)
    together = whole_model.test_step({'inputs': list(inputs), 'data_samples': list(clips),
                                      'streams': [whole_model.new_stream() for _ in parts]})
    assert [len(clip) for clip in together] == [3, 1, 3]
    for part, clip in zip(parts, together):
        single, = whole_model.test_step({'inputs': [part[0]], 'data_samples': [part[1]]})
        for one, other in zip(single, clip):
            one, other = one.pred_track_instances, other.pred_track_instances
            assert one.instances_id.tolist() == other.instances_id.tolist() and len(one) > 0
            torch.testing.assert_close(one.bboxes, other.bboxes)


def test_steps_of_a_distributed_model_use_the_given_states(whole_model):
    import torch.distributed as dist
    from mmengine.model import MMDistributedDataParallel
    dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)
    try:
        wrapped = MMDistributedDataParallel(copy.deepcopy(whole_model), broadcast_buffers=False)
        stream = wrapped.module.new_stream()
        for step, frame in ((wrapped.test_step, 0), (wrapped.val_step, 1)):
            inputs, clip = loaded(0, [frame])
            step({'inputs': [inputs], 'data_samples': [clip], 'streams': [stream]})
        assert (stream.frame_id, stream.num_frames) == (1, 2)
    finally:
        dist.destroy_process_group()


# ---------------------------------------------------------------------------------------------------------------------
# States of a data set


def test_each_video_has_a_state_from_its_first_clip_to_its_last():
    streams = VideoStreams(TrackState)
    first, other = streams.of([clip_of('a', [0, 1]), clip_of('b', [0])])
    assert first is not other and len(streams) == 2
    assert streams.of([clip_of('b', [1]), clip_of('a', [2]), clip_of('a', [3])]) == [other, first, first]
    assert len(streams) == 1  # a has ended
    assert streams.of([clip_of('a', [2])]) == [None]
    again, = streams.of([clip_of('b', [0])])
    assert again is not other
    reference = weakref.ref(other)
    del other
    gc.collect()
    assert reference() is None


def test_context_frames_do_not_affect_states():
    clip = clip_of('a', [0, 1, 2, 3])
    for frame in (clip[0], clip[3]):
        frame.set_metainfo(dict(is_context=True))
    streams = VideoStreams(TrackState)
    assert streams.of([clip]) == [None]  # its own first frame is 1
    begin = clip_of('a', [0, 1])
    begin[1].set_metainfo(dict(is_context=True))
    state, = streams.of([begin])
    assert streams.of([clip]) == [state] and len(streams) == 1


def test_images_need_no_states():
    streams = VideoStreams(lambda: None)
    assert streams.of([clip_of('a', [0])]) == [None] and len(streams) == 0


def test_a_state_is_at_its_last_frame():
    state = StreamState()
    for frame_id in (3, 4, 9):
        state.advance(clip_of('a', [frame_id])[0])
        assert (state.frame_id, state.video_id) == (frame_id, 'a')
    with pytest.raises(UserError, match='frame 9 of video a'):
        state.advance(clip_of('a', [9])[0])
    state.advance(clip_of('b', [0])[0])
    assert (state.frame_id, state.video_id) == (0, 'b')


def test_states_with_many_tracks_stay_plain_data():
    """A copy of a state is deep: it does not change with the original."""
    from mmdet.models.trackers import AssociationTracker
    tracker = AssociationTracker()
    state = tracker.new_state()

    def found(x):
        return InstanceData(bboxes=torch.tensor([[x, 0., x + 9, 9]]), scores=torch.tensor([0.9]),
                            labels=torch.tensor([0]), embeddings=torch.tensor([[1., x]]))

    tracker.track(found(0.), state)
    saved = copy.deepcopy(state)
    tracker.track(found(1.), state)
    assert state.bboxes.tolist() == [[1, 0, 10, 9]] and saved.bboxes.tolist() == [[0, 0, 9, 9]]
