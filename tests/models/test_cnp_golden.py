"""MemCNP against the published implementation: parameter names, maps, boxes, masks, ids."""
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from tests.helpers.golden import fill_golden, golden_json, golden_npz, golden_pairs, golden_video, relative_error
from tests.helpers.models import build_memcnp


@pytest.fixture(scope='module')
def golden():
    return golden_npz('memcnp_vit_small_train.npz')


def test_parameter_names_and_shapes():
    shapes = {name: list(tensor.shape) for name, tensor in build_memcnp().state_dict().items()}
    assert shapes == golden_json('memcnp_vit_small.state_dict.json')


def test_maps(golden, device):
    model = fill_golden(build_memcnp()).eval().to(device)
    inputs, _ = golden_pairs(seed=11, device=device)
    with torch.no_grad():
        backbone = model.backbone(inputs[:, 0])
        neck = model.neck(backbone)
    for name, maps in (('backbone', backbone), ('neck', neck)):
        for level, value in enumerate(maps):
            assert relative_error(value, golden[f'{name}.{level}']) < 1e-4


def check_frame(frame, expected: list[dict]) -> None:
    """Ids and labels exactly, boxes to 1e-2 px (their scores and uncertainties to 1e-4), masks to 1 pixel in 10⁴."""
    predicted = frame.pred_track_instances.cpu()
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
def test_videos(clip_len, device):
    model = fill_golden(build_memcnp()).eval().to(device)
    expected = {(item['video'], item['frame']): item['instances']
                for item in golden_json('memcnp_vit_small_track.json')}
    rng = np.random.default_rng(12)
    for video in range(2):
        inputs, clip = golden_video(rng, device=device)
        streams = [model.new_stream()]
        for start in range(0, 5, clip_len):
            part = clip.new()
            part.video_data_samples = clip.video_data_samples[start:start + clip_len]
            model(inputs[:, start:start + clip_len], [part], mode='predict', streams=streams)
        for index, frame in enumerate(clip):
            check_frame(frame, expected[video, index])
