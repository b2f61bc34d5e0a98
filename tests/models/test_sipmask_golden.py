"""SipMask against the published implementation: parameter names, boxes, masks, ids."""
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tests.helpers.dense import build_sipmask, golden_sipmask
from tests.helpers.golden import golden_json, golden_video


def test_parameter_names_and_shapes():
    shapes = {name: list(tensor.shape) for name, tensor in build_sipmask().state_dict().items()}
    assert shapes == golden_json('sipmask_vit_small.state_dict.json')


def check_frame(frame, expected: list[dict]) -> None:
    """Ids and labels exactly, boxes to 1e-2 px, scores to 1e-4, masks to 1 pixel in 10⁴."""
    predicted = frame.pred_track_instances.cpu()
    predicted = predicted[predicted.instances_id.argsort()]
    expected = sorted(expected, key=lambda item: item['id'])
    assert predicted.instances_id.tolist() == [item['id'] for item in expected]
    assert predicted.labels.tolist() == [item['label'] for item in expected]
    rows = np.array([item['bbox'] for item in expected])
    np.testing.assert_allclose(predicted.bboxes.numpy(), rows[:, :4], atol=1e-2)
    np.testing.assert_allclose(predicted.scores.numpy(), rows[:, 4], atol=1e-4)
    for rle, item in zip(predicted.masks, expected):
        truth = coco_mask.decode(item['rle'])
        assert (coco_mask.decode(rle) != truth).sum() <= 1e-4 * truth.size


@pytest.mark.parametrize('clip_len', [5, 2, 1], ids=['whole video', 'clips', 'online'])
def test_videos(clip_len, device):
    model = golden_sipmask().eval().to(device)
    frames = golden_json('sipmask_vit_small_track.json')
    expected = {(item['video'], item['frame']): item['instances'] for item in frames}
    rng = np.random.default_rng(32)
    for video in range(2):
        inputs, clip = golden_video(rng, device=device)
        streams = [model.new_stream()]
        for start in range(0, 5, clip_len):
            part = clip.new()
            part.video_data_samples = clip.video_data_samples[start:start + clip_len]
            model(inputs[:, start:start + clip_len], [part], mode='predict', streams=streams)
        for index, frame in enumerate(clip):
            check_frame(frame, expected[video, index])
