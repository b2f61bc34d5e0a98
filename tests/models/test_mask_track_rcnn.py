"""MaskTrack and CMaskTrack R-CNN at tiny size: losses of difficult ground truth, results, calibration window, clips."""
import copy

import pytest
import torch
from pycocotools import mask as coco_mask
from recorded_graph import use_recorded_graphs

from tests.helpers.two_stage import (
    SIZE,
    annotated_frame,
    build_detecting,
    build_two_stage,
    clip,
    noise,
    plain_frames,
    same_results,
)

LARGE, SMALL = (4, 4, 60, 50), (62, 8, 90, 40)


@pytest.fixture(scope='module', params=[False, True], ids=['masktrack', 'cmasktrack'])
def model(request):
    return build_two_stage(calibrated=request.param)


@pytest.fixture(scope='module')
def calibrated():
    """A calibrated model whose scores pass the threshold and whose references matter."""
    model = build_two_stage(calibrated=True).eval()
    torch.manual_seed(1)
    for module in (model.bbox_head.fc_cls, model.bbox_head.fc_reg, model.mask_head.conv_logits):
        torch.nn.init.normal_(module.weight, std=0.1)
    return model


@pytest.mark.parametrize('keys, references', [
    ([[LARGE, SMALL]], [[LARGE, SMALL]]),
    ([[]], [[]]),
    ([[LARGE]], [[]]),
    ([[]], [[LARGE]]),
    ([[LARGE], []], [[LARGE], [SMALL]]),
    ([[(10, 10, 10, 10)]], [[(10, 10, 10, 10)]]),
    ([[(0, 0, 95, 63), (0, 0, 95, 63)]], [[(0, 0, 95, 63)]]),
], ids=['two', 'none', 'no reference object', 'only reference object', 'one image empty', 'one pixel', 'coincident'])
def test_losses_are_finite_and_reach_every_parameter(model, keys, references):
    model.train().zero_grad()
    torch.manual_seed(0)
    clips = [clip([annotated_frame(key), annotated_frame(ref)]) for key, ref in zip(keys, references)]
    losses = model(noise(len(clips), 2), clips, mode='loss')
    assert set(losses) == {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_mask', 'loss_match',
                           'match_acc'}
    assert all(torch.isfinite(value) for value in losses.values())
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_without_objects_only_the_background_is_trained(model):
    losses = model.train()(noise(1, 2), [clip([annotated_frame([]), annotated_frame([])])], mode='loss')
    assert losses['loss_rpn_cls'] > 0 and losses['loss_cls'] > 0
    assert all(losses[name] == 0 for name in ('loss_rpn_bbox', 'loss_bbox', 'loss_mask', 'loss_match'))


@pytest.mark.parametrize('legacy_boxes', [False, True])
def test_a_single_positive_region_is_trained(legacy_boxes):
    """The published code skipped an image with exactly one positive region."""
    model = build_two_stage(legacy_boxes=legacy_boxes,
                            sampler=dict(type='RandomBoxSampler', num=2, pos_fraction=0.5)).train()
    pair = [annotated_frame([LARGE]), annotated_frame([LARGE])]
    losses = model(noise(1, 2), [clip(pair)], mode='loss')
    assert all(losses[name] > 0 for name in ('loss_cls', 'loss_bbox', 'loss_mask', 'loss_match'))


def test_training_fits_a_pair():
    model = build_two_stage().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    inputs, clips = noise(1, 2), [clip([annotated_frame([LARGE, SMALL]), annotated_frame([LARGE, SMALL])])]
    totals = []
    for _ in range(8):
        losses = model(inputs, clips, mode='loss')
        total = sum(value for name, value in losses.items() if 'loss' in name)
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 35)
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.8 * totals[0]


@pytest.mark.parametrize('legacy_boxes', [False, True])
def test_fields_and_ranges_of_results(legacy_boxes):
    model = build_two_stage(legacy_boxes=legacy_boxes).eval()
    torch.nn.init.normal_(model.bbox_head.fc_cls.weight, std=0.1)
    torch.nn.init.normal_(model.mask_head.conv_logits.weight, std=0.1)
    predicted, = model(noise(1, 3), [clip(plain_frames(range(3)))], mode='predict')
    height, width = 2 * SIZE[0], 2 * SIZE[1]
    assert sum(len(frame.pred_track_instances) for frame in predicted) > 0
    for frame in predicted:
        found = frame.pred_track_instances
        assert set(found.keys()) == {'bboxes', 'scores', 'labels', 'instances_id', 'masks'}
        assert found.bboxes.min() >= 0 and (found.bboxes <= torch.tensor([width, height, width, height])).all()
        assert ((found.scores > 0.05) & (found.scores <= 1)).all()
        assert ((found.labels >= 0) & (found.labels < 3)).all()
        assert found.instances_id.unique().numel() == len(found)
        # masks lie in their boxes
        for rle, box in zip(found.masks, found.bboxes):
            assert rle['size'] == [height, width]
            x, y, w, h = coco_mask.toBbox(rle)
            if w * h:
                assert x >= int(box[0]) and y >= int(box[1]) and x + w <= box[2] + 1 and y + h <= box[3] + 1


@pytest.mark.parametrize('calibrated', [False, True])
def test_frames_without_detection(calibrated):
    model = build_two_stage(calibrated=calibrated).eval()
    with torch.no_grad():
        model.bbox_head.fc_cls.bias.copy_(torch.tensor([20.0, 0, 0, 0]))
    predicted, = model(noise(1, 2), [clip(plain_frames(range(2)))], mode='predict')
    for frame in predicted:
        assert len(frame.pred_track_instances.bboxes) == 0 and frame.pred_track_instances.masks == []


def test_results_do_not_depend_on_clip_length():
    model = build_two_stage().eval()
    torch.nn.init.normal_(model.bbox_head.fc_cls.weight, std=0.1)
    inputs = noise(1, 4)
    whole, = model(inputs, [clip(plain_frames(range(4)))], mode='predict')
    assert sum(len(frame.pred_track_instances) for frame in whole) > 0
    stream = [model.new_stream()]
    parts = [model(inputs[:, i:i + 1], [clip(plain_frames([i]))], mode='predict', streams=stream)[0][0]
             for i in range(4)]
    same_results(whole, parts)


def test_context_frames_give_the_results_of_the_whole_video(calibrated):
    """Clips with five frames of context on either side give the results of the whole video at once."""
    length, step = 14, 4
    inputs = noise(1, length)
    whole, = calibrated(inputs, [clip(plain_frames(range(length)))], mode='predict')
    assert sum(len(frame.pred_track_instances) for frame in whole) > 0
    parts, stream = [], [calibrated.new_stream()]
    for first in range(0, length, step):
        shown = range(first, min(first + step, length))
        ids = range(max(first - 5, 0), min(first + step + 5, length))
        frames = plain_frames(ids, context=set(ids) - set(shown))
        part, = calibrated(inputs[:, ids.start:ids.stop], [clip(frames)], mode='predict', streams=stream)
        assert [frame.frame_id for frame in part] == list(shown)
        parts += part
    same_results(whole, parts)


@pytest.mark.parametrize('length', [1, 2, 7])
def test_short_videos(calibrated, length):
    predicted, = calibrated(noise(1, length), [clip(plain_frames(range(length)))], mode='predict')
    assert len(predicted) == length and all('pred_track_instances' in frame for frame in predicted)


def test_window():
    model = build_two_stage(calibrated=True, window=2)
    assert model.references([0], 0) == [0]
    assert model.references([0, 1, 2, 3, 4, 5], 3) == [1, 2, 4, 5]
    assert model.references([4, 5, 6, 9], 0) == [1, 2]


def test_identical_references_average_to_one(calibrated):
    """A still video: the mean over any number of equal references is what one reference gives."""
    still = noise(1, 1).expand(-1, 4, -1, -1, -1)
    single, = calibrated(still[:, :2], [clip(plain_frames(range(2)))], mode='predict')
    several, = calibrated(still, [clip(plain_frames(range(4)))], mode='predict')
    same_results([single[0]], [several[0]])


@pytest.mark.parametrize('calibrated', [False, True], ids=['masktrack', 'cmasktrack'])
@pytest.mark.parametrize('frames', [1, 3])
def test_cuda_graphs_do_not_change_the_results(calibrated, frames, device, monkeypatch):
    """The first call runs without a graph, the second one captures and replays it, the third one replays it."""
    if device == 'cpu':
        use_recorded_graphs(monkeypatch)
    graphed = build_detecting(calibrated=calibrated).to(device)
    eager = copy.deepcopy(graphed)
    eager.cuda_graphs = False
    scores = set()
    for seed in range(3):
        inputs, frames_in = noise(1, frames, seed=seed).to(device), plain_frames(range(frames))
        plain, found = (model(inputs, [clip(copy.deepcopy(frames_in))], mode='predict')[0]
                        for model in (eager, graphed))
        same_results(found, plain)
        scores.add(str([frame.pred_track_instances.scores.tolist() for frame in found]))
    assert len(scores) == 3  # else results of an earlier call would not be noticed
    # with several references, whose number varies, only the proposals are a graph
    assert len(graphed._graphs._graphs) == (2 if calibrated and frames == 1 else 1) and not eager._graphs._graphs
    graphed.train()
    assert not graphed._graphs._graphs
