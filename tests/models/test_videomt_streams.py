"""VidEoMT over videos: streams side by side, saved states, results of frames and of whole videos, memory."""
import copy
import io
import pickle

import pytest
import torch
from pycocotools import mask as coco_mask
from torch import nn

from mmdet.errors import UserError
from mmdet.models.trackers.query_state import best_pairs, can_enter, logit_difference_range
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from tests.helpers.golden import clip_of
from tests.helpers.videomt import golden_videomt, normal
from tests.models.recorded_graph import use_recorded_graphs
from tools.analysis_tools.measures.synthetic import synthetic_clips

SIZE = (32, 64)


@pytest.fixture(scope='module')
def model():
    return golden_videomt(results=dict(type='QueryTrackResults', score_thr=0.1)).eval()


def frame(frame_id: int, length: int | None = None, video_id: int = 1, **metainfo) -> DetDataSample:
    """A frame of a data set's video of ``length`` frames; without length of a stream."""
    kind = dict(source_frame=frame_id) if length is None else dict(video_length=length)
    return DetDataSample(metainfo=dict(frame_id=frame_id, video_id=video_id, img_shape=SIZE, ori_shape=SIZE)
                         | kind | metainfo)


def found(sample: DetDataSample) -> tuple:
    objects = sample.pred_track_instances
    return (objects.instances_id.tolist(), objects.labels.tolist(), objects.scores.tolist(),
            [rle['counts'] for rle in objects.masks])


def run(model, images: torch.Tensor, stream=None, first: int = 0, **metainfo) -> list[DetDataSample]:
    """Images (T, 3, h, w) one by one."""
    stream = stream or model.new_stream()
    frames = [frame(first + index, **metainfo) for index in range(len(images))]
    for index, sample in enumerate(frames):
        model(images[None, index:index + 1], [clip_of([sample])], mode='predict', streams=[stream])
    return frames


def same(frames, others) -> bool:
    return all(a[0] == b[0] and a[1] == b[1] and a[3] == b[3] and a[2] == pytest.approx(b[2], abs=1e-5)
               for a, b in zip(map(found, frames), map(found, others), strict=True))


def test_streams_in_one_batch_and_in_turns_do_not_mix(model):
    videos = [normal(seed, (3, 3, *SIZE)) for seed in (5, 6)]
    alone = [run(model, images, video_id=number) for number, images in enumerate(videos)]
    streams = [model.new_stream() for _ in videos]
    frames = [[frame(index, video_id=number) for index in range(3)] for number in range(2)]
    for index in range(3):
        model(torch.stack([images[index:index + 1] for images in videos]),
              [clip_of([of_video[index]]) for of_video in frames], mode='predict', streams=streams)
    for number in range(2):
        assert same(frames[number], alone[number])
    assert not same(alone[0], alone[1])


def test_clips_of_one_video_in_one_batch(model):
    images, stream = normal(5, (4, 3, *SIZE)), model.new_stream()
    frames = [frame(index) for index in range(4)]
    model(images.unflatten(0, (2, 2)), [clip_of(frames[:2]), clip_of(frames[2:])], mode='predict',
          streams=[stream, stream])
    assert same(frames, run(model, images))


@pytest.mark.parametrize('save', [copy.deepcopy, lambda state: pickle.loads(pickle.dumps(state))],
                         ids=['deepcopy', 'pickle'])
def test_a_saved_state_continues_the_video(model, save):
    images, stream = normal(5, (4, 3, *SIZE)), model.new_stream()
    whole = run(model, images)
    run(model, images[:2], stream)
    saved = save(stream)
    run(model, normal(9, (2, 3, *SIZE)), stream, first=2)  # the first stream sees other frames
    assert same(run(model, images[2:], saved, first=2), whole[2:])
    assert torch.save(vars(saved), io.BytesIO()) is None


def test_the_first_frame_resets(model):
    images, stream = normal(5, (2, 3, *SIZE)), model.new_stream()
    first = run(model, images, stream)
    assert same(run(model, images, stream), first)
    stream.reset()
    assert stream.queries is None and stream.frame_id == -1


def test_a_clip_without_a_state_must_begin_its_video(model):
    with pytest.raises(UserError, match='no stream state'):
        model(normal(5, (1, 1, 3, *SIZE)), [clip_of([frame(3)])], mode='predict')


def test_replayed_graphs_give_the_same(model, monkeypatch):
    images = normal(5, (4, 3, *SIZE))
    plain = run(model, images)
    use_recorded_graphs(monkeypatch)
    monkeypatch.setattr(model, '_graphs', type(model._graphs)())
    assert same(run(model, images), plain)
    assert len(model._graphs._graphs) == 1


@pytest.mark.cuda
@pytest.mark.parametrize('clip_len', [1, 2])
def test_cuda_graphs_on_a_gpu(model, clip_len):
    """Logits and states of graphs, whose memory is overwritten by each replay, and of the same network without them."""
    images = normal(5, (6, 3, *SIZE)).cuda()
    outputs = []
    for graphs in (False, True):
        copied = copy.deepcopy(model).cuda()
        copied.cuda_graphs = graphs
        stream = copied.new_stream()
        frames = [frame(index, length=6) for index in range(6)]
        for first in range(0, 6, clip_len):
            part = slice(first, first + clip_len)
            copied(images[None, part], [clip_of(frames[part])], mode='predict', streams=[stream])
        outputs.append((frames, stream))
        assert len(copied._graphs._graphs) == int(graphs)
    (plain, first), (replayed, second) = outputs
    torch.testing.assert_close(second.queries, first.queries, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(second.logit_sum, first.logit_sum, atol=1e-2, rtol=1e-3)
    assert replayed[-1].video_tracks.instances_id.tolist() == plain[-1].video_tracks.instances_id.tolist()


@pytest.mark.cuda
def test_gradients_are_deterministic_on_a_gpu(monkeypatch):
    """The same gradients twice where PyTorch is asked for fixed orders, and no operation that has none."""
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    model = golden_videomt(criterion=dict(type='QueryMaskCriterion', num_points=64)).cuda()
    inputs, samples = synthetic_clips(2, 3, (64, 96), num_classes=5, device='cuda')
    gradients = []
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(2):
            torch.manual_seed(0)
            model.zero_grad()
            sum(model(inputs, samples, mode='loss').values()).backward()
            gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(*pair) for pair in zip(*gradients))


def test_the_running_mean_follows_all_frames_so_far():
    model = golden_videomt(results=dict(type='QueryTrackResults', score='mean', score_thr=0.0, max_per_frame=20)).eval()
    images = normal(5, (3, 3, *SIZE))
    frames = run(model, images)
    logits = model(images[None]).class_logits[0]
    for index, sample in enumerate(frames):
        probs = logits[:index + 1].mean(0).softmax(-1)[:, :-1]
        objects = sample.pred_track_instances
        assert objects.scores.tolist() == pytest.approx(probs.max(1).values[objects.instances_id].tolist(), abs=1e-5)
        assert objects.labels.tolist() == probs.max(1).indices[objects.instances_id].tolist()
        assert objects.scores.tolist() == sorted(objects.scores.tolist(), reverse=True)


def test_frames_have_the_best_objects_above_the_threshold(model):
    images = normal(5, (1, 3, *SIZE))
    everything = run(golden_videomt(results=dict(type='QueryTrackResults', score_thr=0.0)).eval(), images)
    few = run(golden_videomt(results=dict(type='QueryTrackResults', score_thr=0.2, max_per_frame=3)).eval(), images)
    scores = everything[0].pred_track_instances.scores
    assert (scores > 0.2).sum() > 3
    assert len(few[0].pred_track_instances) <= 3 and few[0].pred_track_instances.scores.min() > 0.2


def test_boxes_are_the_extents_of_masks(model):
    objects = run(model, normal(5, (1, 3, *SIZE)))[0].pred_track_instances
    assert len(objects)
    for box, rle in zip(objects.bboxes.tolist(), objects.masks):
        rows, columns = coco_mask.decode(rle).nonzero()
        assert box == [columns.min(), rows.min(), columns.max(), rows.max()]


def test_only_data_sets_get_results_of_whole_videos(model):
    images = normal(5, (2, 3, *SIZE))
    stream = run(model, images)
    data_set = run(model, images, length=2)
    assert not any(name in sample for sample in stream for name in ('video_candidates', 'video_tracks'))
    assert all('video_candidates' in sample for sample in data_set)
    assert len(data_set[1].video_tracks) == 10 and 'video_tracks' not in data_set[0]
    assert same(stream, data_set)


def test_the_size_of_a_state_does_not_grow(model):
    stream, sizes = model.new_stream(), []
    images = normal(5, (1, 3, *SIZE))
    for first in range(0, 60, 20):
        for index in range(first, first + 20):
            run(model, images, stream, first=index, length=200)
        sizes.append(len(pickle.dumps(stream)))
    assert max(sizes) - min(sizes) <= 64  # but for the length of numbers


# ---------------------------------------------------------------------------------------------------------------------
# The best pairs of a video


def test_the_best_pairs_in_order():
    logits = torch.tensor([[0.0, 2.0, -1.0], [1.0, 0.0, 3.0], [5.0, 4.0, 0.0]])
    probs = logits.softmax(-1)
    scores, labels, queries = best_pairs(logits, 4)
    assert list(zip(queries.tolist(), labels.tolist())) == [(0, 1), (2, 0), (2, 1), (0, 0)]
    torch.testing.assert_close(scores, torch.stack([probs[0, 1], probs[2, 0], probs[2, 1], probs[0, 0]]))
    assert len(best_pairs(logits, 100)[0]) == 6


def test_logit_differences_stay_within_their_range():
    torch.manual_seed(0)
    norm, classifier = nn.LayerNorm(16), nn.Linear(16, 4)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    low, high = logit_difference_range(norm, classifier, slack=1.0)
    with torch.no_grad():
        logits = classifier(norm(10 * torch.randn(5000, 16)))
        extreme = classifier.weight[1] - classifier.weight[0]
        extreme = norm.weight * extreme - (norm.weight * extreme).mean()  # the direction that reaches the bound
        reached = classifier(norm(1000 * extreme))
    difference = logits[:, :, None] - logits[:, None]
    assert (difference >= low - 1e-4).all() and (difference <= high + 1e-4).all()
    assert float(reached[1] - reached[0]) == pytest.approx(float(high.detach()[1, 0]), rel=1e-3)
    torch.testing.assert_close(low, -high.T)


def test_no_query_can_enter_once_the_rest_of_the_video_is_too_short():
    """Scores of one class against none: logits 4, 2 and −4 after 9 frames; a frame can change a difference by 1."""
    one = torch.tensor([[4.0, 0.0], [2.0, 0.0], [-4.0, 0.0]])
    limits = torch.tensor([[0.0, -1.0], [-1.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert can_enter(9 * one, 9, 10, limits, number=1).tolist() == [True, False, False]
    assert can_enter(9 * one, 9, 10, limits, number=2).tolist() == [True, True, False]
    assert can_enter(9 * one, 9, 40, limits, number=1).tolist() == [True, True, False]
    assert can_enter(9 * one, 9, 1000, limits, number=1).tolist() == [True, True, True]
    assert can_enter(9 * one, 9, 10, limits, number=5).all()


def test_excluded_queries_are_never_among_the_best(model):
    """At the last frame only queries of the results are left, and the results are the exact ones."""
    images = normal(5, (6, 3, *SIZE))
    frames = run(model, images, length=6)
    counts = [len(sample.video_candidates) for sample in frames]
    assert counts[-1] <= 10 < counts[0]
    logits = model(images[None]).class_logits[0].mean(0)
    scores, labels, queries = best_pairs(logits, 10)
    assert frames[-1].video_tracks.instances_id.tolist() == queries.tolist()
    assert frames[-1].video_tracks.labels.tolist() == labels.tolist()
    torch.testing.assert_close(frames[-1].video_tracks.scores, scores, atol=1e-5, rtol=0)


def test_fewer_candidates_on_request():
    model = golden_videomt(results=dict(type='QueryTrackResults', max_per_video=4, max_candidates=6)).eval()
    frames = run(model, normal(5, (3, 3, *SIZE)), length=9)
    assert all(len(sample.video_candidates) <= 6 for sample in frames)


@pytest.mark.parametrize('wrong', [dict(score='best'), dict(max_candidates=3)])
def test_invalid_options_are_user_errors(wrong):
    with pytest.raises(UserError, match='QueryTrackResults'):
        MODELS.build(dict(type='QueryTrackResults', **wrong))
