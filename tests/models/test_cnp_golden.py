"""MemCNP against the published implementation: parameter names, maps, losses, gradients, memory, boxes, masks, ids."""
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from mmdet.testing.golden import fill_golden, golden_json, golden_npz, golden_pairs, golden_video
from mmdet.testing.models import build_memcnp


@pytest.fixture(scope='module')
def golden():
    return golden_npz('memcnp_vit_small_train.npz')


@pytest.fixture(scope='module')
def trained(golden):
    """The golden model after one forward and backward pass, and its losses."""
    model = fill_golden(build_memcnp(track_jitter=0.0)).train()
    losses = model(*golden_pairs(seed=11), mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    return model, losses


def relative_error(value: torch.Tensor, expected: np.ndarray) -> float:
    expected = torch.as_tensor(expected).double()
    return float((value.detach().double() - expected).norm() / expected.norm())


def test_parameter_names_and_shapes():
    shapes = {name: list(tensor.shape) for name, tensor in build_memcnp().state_dict().items()}
    assert shapes == golden_json('memcnp_vit_small.state_dict.json')


def test_maps(golden):
    model = fill_golden(build_memcnp()).eval()
    inputs, _ = golden_pairs(seed=11)
    with torch.no_grad():
        backbone = model.backbone(inputs[:, 0])
        neck = model.neck(backbone)
    for name, maps in (('backbone', backbone), ('neck', neck)):
        for level, value in enumerate(maps):
            assert relative_error(value, golden[f'{name}.{level}']) < 1e-4


def test_losses(golden, trained):
    _, losses = trained
    expected = {name[5:]: float(value) for name, value in golden.items() if name.startswith('loss/')}
    expected.pop('total')
    assert {name: float(value.detach()) for name, value in losses.items()} == pytest.approx(expected, rel=1e-4)


def test_gradient_norms(golden, trained):
    model, _ = trained
    norms = {name: -1.0 if parameter.grad is None else float(parameter.grad.norm())
             for name, parameter in model.named_parameters()}
    expected = {name[9:]: float(value) for name, value in golden.items() if name.startswith('gradnorm/')}
    assert norms == pytest.approx(expected, rel=5e-3)


def test_memory_after_the_step(golden, trained):
    model, _ = trained
    assert relative_error(model.bbox_head.mem.feat_units.weight, golden['memory_after']) < 1e-4


def check_frame(frame, expected: list[dict]) -> None:
    """Ids and labels exactly, boxes to 1e-2 px (their scores and uncertainties to 1e-4), masks to 1 pixel in 10⁴."""
    predicted = frame.pred_track_instances
    predicted = predicted[predicted.instances_id.argsort()]
    expected = sorted(expected, key=lambda item: item['id'])
    assert predicted.instances_id.tolist() == [item['id'] for item in expected]
    assert predicted.labels.tolist() == [item['label'] for item in expected]
    rows = torch.cat([predicted.bboxes, predicted.scores[:, None], predicted.uncertainties,
                      predicted.centerness[:, None]], dim=1).numpy()
    golden_rows = np.array([item['bbox'] for item in expected])
    np.testing.assert_allclose(rows[:, :4], golden_rows[:, :4], atol=1e-2)
    np.testing.assert_allclose(rows[:, 4:], golden_rows[:, 4:], atol=1e-4)
    for rle, item in zip(predicted.masks, expected):
        truth = coco_mask.decode(item['rle'])
        assert (coco_mask.decode(rle) != truth).sum() <= 1e-4 * truth.size


@pytest.mark.parametrize('clip_len', [5, 2, 1], ids=['whole video', 'clips', 'online'])
def test_videos(clip_len):
    model = fill_golden(build_memcnp()).eval()
    expected = {(item['video'], item['frame']): item['instances']
                for item in golden_json('memcnp_vit_small_track.json')}
    rng = np.random.default_rng(12)
    for video in range(2):
        inputs, clip = golden_video(rng)
        for start in range(0, 5, clip_len):
            part = clip.new()
            part.video_data_samples = clip.video_data_samples[start:start + clip_len]
            model(inputs[:, start:start + clip_len], [part], mode='predict')
        for index, frame in enumerate(clip):
            check_frame(frame, expected[video, index])
