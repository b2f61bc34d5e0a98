"""Videos given as arrays: accepted types, and one-line errors for others."""
import re

import numpy as np
import pytest
import torch
from PIL import Image

from mmdet.errors import UserError
from mmdet.video.source import open_video

FRAMES = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(('video', 'expected'), [
    (FRAMES, FRAMES),
    (list(FRAMES), FRAMES),
    (iter(FRAMES), FRAMES),
    (torch.from_numpy(FRAMES), FRAMES),
    (list(torch.from_numpy(FRAMES)), FRAMES),
    (FRAMES[:1], FRAMES[:1]),
    (FRAMES[..., 0], FRAMES[..., :1].repeat(3, axis=3)),  # grey
    ([FRAMES[0, ..., 0]], FRAMES[:1, ..., :1].repeat(3, axis=3)),
    (FRAMES[:, ::-1, ::2], FRAMES[:, ::-1, ::2]),  # views
], ids=['array', 'list', 'iterator', 'tensor', 'list of tensors', 'one frame', 'grey', 'grey list', 'views'])
def test_frames_are_taken_as_they_are(video, expected):
    frames = [frame.image for frame in open_video(video)]
    np.testing.assert_array_equal(frames, expected)
    assert all(frame.dtype == np.uint8 and frame.flags['C_CONTIGUOUS'] for frame in frames)


def test_a_frame_is_a_copy():
    frame = next(open_video(FRAMES)).image
    assert not np.shares_memory(frame, FRAMES)


@pytest.mark.parametrize(('video', 'words'), [
    (FRAMES[0], r'one array of shape \(6, 8, 3\), which is a single image; give a list of frames, \[image\]'),
    (torch.from_numpy(FRAMES[0]), r'shape \(6, 8, 3\), which is a single image'),
    (torch.from_numpy(FRAMES[0]).permute(2, 0, 1), r'shape \(3, 6, 8\), which is a single image'),
    (np.zeros((6, 8), np.uint8), r'shape \(6, 8\), which is a single image'),
    (np.zeros((6, 8, 4), np.uint8), r'shape \(6, 8, 4\), which is a single image'),
    (np.zeros((6, 8, 1), np.uint8), r'shape \(6, 8, 1\), which is a single image'),
    (np.zeros(6, np.uint8), r'shape \(6,\); give an array of shape \(frames, height, width, 3\)'),
    (np.zeros((1, 2, 6, 8, 3), np.uint8), r'shape \(1, 2, 6, 8, 3\)'),
    (FRAMES.astype(np.float32) / 255, r'float32 \(6, 8, 3\); .* values from 0 to 255'),
    (FRAMES.astype(np.int64), 'int64'),
    (FRAMES > 100, 'bool'),
    (torch.from_numpy(FRAMES).bfloat16(), 'float32'),
    (FRAMES.transpose(0, 3, 1, 2), r'frame.transpose\(1, 2, 0\)'),
    (np.zeros((2, 6, 8, 4), np.uint8), r'give frame\[..., :3\]'),
    (np.zeros((2, 6, 8, 1), np.uint8), r'give frame\[..., 0\]'),
    (list(FRAMES[0]), r'frame 0 is an array of uint8 \(8, 3\), which looks like a row of an image'),
    (FRAMES[0].tolist(), 'looks like a row of an image'),
    (FRAMES.tolist(), 'int64'),
    ([1, 2, 3], 'frame 0 is of type int'),
    ([None], 'frame 0 is of type NoneType'),
    (['a.png', 'b.png'], 'frame 0 is a path; give the folder or a glob'),
    ([Image.fromarray(FRAMES[0])], r'frame 0 is a PIL image, in RGB order; give .*\[..., ::-1\]'),
    (Image.fromarray(FRAMES[0]), 'not Image'),
    ([[[1], [1, 2]]], 'rows of unequal length'),
    (b'film', 'not bytes: write the bytes to a file'),
    ({0: FRAMES[0]}, 'not a dict; give a list'),
    ({1, 2}, 'not a set; give a list'),
    (True, 'not bool'),
    (1.5, 'not float'),
    (None, 'not NoneType'),
])
def test_anything_else_is_one_line_at_once(video, words):
    with pytest.raises(UserError, match=words) as raised:
        open_video(video)
    assert '\n' not in str(raised.value)


def test_a_later_frame_is_named():
    source = open_video([FRAMES[0], FRAMES[1].astype(np.float32)])
    next(source)
    with pytest.raises(UserError, match=re.escape('frame 1 is an array of float32 (6, 8, 3)')):
        next(source)


def test_no_frame_at_all():
    for video in ([], FRAMES[:0]):
        with pytest.raises(UserError, match='no frame to read'):
            list(open_video(video))
