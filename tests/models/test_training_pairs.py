"""Detectors that learn from pairs of key and reference frame refuse other clips in one line."""
import pytest
import torch

from mmdet.errors import UserError
from mmdet.models.detectors import FCOS, CMaskTrackRCNN, MaskTrackRCNN, SipMaskMem, VidEoMT


@pytest.mark.parametrize(('frames', 'said'), [(1, 'have 1 frame; .*COCOVIS for images'), (3, 'have 3 frames; leave')])
@pytest.mark.parametrize('detector', [SipMaskMem, MaskTrackRCNN, CMaskTrackRCNN])
def test_clips_that_are_no_pairs(detector, frames, said):
    model = detector.__new__(detector)  # refused before any layer is used
    with pytest.raises(UserError, match=f'{detector.__name__} learns from pairs .*{said}'):
        detector.forward(model, torch.zeros(1, frames, 3, 32, 32), [], 'loss')


def test_detectors_of_images_and_of_clips_take_any_number_of_frames():
    assert not FCOS.learns_from_pairs and not VidEoMT.learns_from_pairs
