"""The CUDA graph of MaskTrack R-CNN: what remains outside of it, detections that it cannot complete, half precision."""
import copy

import pytest
import torch
from recorded_graph import RecordedGraph
from torch.utils._python_dispatch import TorchDispatchMode

from mmdet.models.roi_heads import bbox_head, region_results
from tests.helpers.two_stage import build_detecting, clip, noise, plain_frames, same_results


def predict(model, frames=2, seed=0, device='cpu', sizes=None):
    samples = plain_frames(range(frames))
    for frame, size in zip(samples, sizes or []):
        frame.set_metainfo(dict(ori_shape=size))
    predicted, = model(noise(1, frames, seed=seed).to(device), [clip(samples)], mode='predict')
    assert all(frame.pred_track_instances.masks for frame in predicted)
    return predicted


class Outside(TorchDispatchMode):
    """Lists the operators outside of recorded graphs, without views, which launch nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = []
        self.replays = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view:
            self.calls.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures('recorded_graphs')
def test_a_frame_is_one_graph_with_few_operators_around_it(device, monkeypatch):
    if device != 'cpu':
        pytest.skip('operators are recorded on the CPU')
    model, outside = build_detecting(), Outside()
    replay = RecordedGraph.replay

    def uncounted(graph):
        before = list(outside.calls)
        replay(graph)
        outside.calls = before
        outside.replays += 1

    monkeypatch.setattr(RecordedGraph, 'replay', uncounted)
    for seed in range(2):
        predict(model, 1, seed)
    outside.replays, images, samples = 0, noise(1, 1, seed=2), [clip(plain_frames([0]))]
    with outside:
        model(images, samples, mode='predict')
    assert samples[0][0].pred_track_instances.masks and outside.replays == 1
    assert len(outside.calls) <= 16, outside.calls  # of them on the host, after the copies: nine
    assert not {'aten.nonzero.default', 'aten.masked_select.default', 'torchvision.nms.default'} & set(outside.calls)


@pytest.mark.usefixtures('recorded_graphs')
@pytest.mark.parametrize('calibrated', [False, True])
@pytest.mark.parametrize(('where', 'name'), [(bbox_head, '_CANDIDATES'), (region_results, '_ENDS_OF_A_COLUMN')])
def test_what_the_graph_cannot_complete_is_detected_without_it(calibrated, where, name, device, monkeypatch):
    """Too few candidates or ends of runs fit in the graph's tensors: the detection is repeated in stages."""
    model = build_detecting(calibrated=calibrated).to(device)
    in_stages, repeated = model._detect, []
    plain = copy.deepcopy(model)
    plain.cuda_graphs = False
    monkeypatch.setattr(model, '_detect', lambda *args: repeated.append(args) or in_stages(*args))
    monkeypatch.setattr(where, name, 1 if name == '_CANDIDATES' else 0)
    for seed in range(3):
        found, expected = (predict(twin, 1, seed, device) for twin in (model, plain))
        same_results(found, expected)
    assert len(repeated) == 3


@pytest.mark.usefixtures('recorded_graphs')
def test_original_sizes_may_differ_and_masks_may_be_many(device, monkeypatch):
    model = build_detecting().to(device)
    plain = copy.deepcopy(model)
    plain.cuda_graphs = False
    monkeypatch.setattr(region_results, '_PIXELS_AT_ONCE', 2 * 128 * 192)
    sizes = [(128, 192), (128, 192), (64, 96)]
    for seed in range(3):
        found, expected = (predict(twin, 3, seed, device, sizes) for twin in (model, plain))
        same_results(found, expected)
        assert [frame.pred_track_instances.masks[0]['size'] for frame in found] == [list(size) for size in sizes]


@pytest.mark.parametrize('calibrated', [False, True])
@pytest.mark.usefixtures('recorded_graphs')
def test_half_precision(calibrated, device):
    """Weights are converted once; graphs of the former ones are dropped."""
    model = build_detecting(calibrated=calibrated).to(device)
    for seed in range(2):
        predict(model, 1, seed, device)
    assert model._graphs._graphs
    images = noise(1, seed=3).to(device)
    with torch.autocast(device, torch.bfloat16), torch.no_grad():
        expected = model.extract_feat(images)
        model.halve_weights()
        found = model.extract_feat(images)
    assert not model._graphs._graphs
    assert model.mask_head.upsample.weight.dtype == model.bbox_head.fc_cls.weight.dtype == torch.bfloat16
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == theirs.dtype
        assert (mine - theirs).abs().max() <= 0.05 * theirs.abs().max()
    with torch.autocast(device, torch.bfloat16):
        for seed in range(3):
            predict(model, 1, seed, device)
    with torch.autocast(device, torch.bfloat16):
        halves = [model.launch(images[None], [clip(plain_frames([number]))], [model.new_stream()])
                  for number in (0, 0)]
    for finish in halves:  # needs no autocast: the network has been launched
        assert finish()[0][0].pred_track_instances.masks
