"""Inputs and samples that the pipeline returns."""
import numpy as np
import torch

from mmdet.datasets.transforms import PackTrackInputs


def make_frame(height: int, width: int, frame_id: int, **more) -> dict:
    return {'img': np.full((height, width, 3), (1, 2, 3), np.uint8), 'img_path': f'{frame_id}.jpg', 'video_id': 4,
            'frame_id': frame_id, 'video_length': 9, 'ori_shape': (8, 8), 'img_shape': (height, width),
            'scale_factor': .5, 'flip': False, **more}


def test_frames_become_a_clip_in_bgr():
    packed = PackTrackInputs()({'frames': [make_frame(4, 6, 0), make_frame(4, 6, 1)]})
    assert packed['inputs'].shape == (2, 3, 4, 6) and packed['inputs'].dtype == torch.uint8
    assert [packed['inputs'][:, c].unique().tolist() for c in range(3)] == [[1], [2], [3]]
    frame = packed['data_samples'][1]
    assert (frame.img_path, frame.video_id, frame.frame_id, frame.video_length) == ('1.jpg', 4, 1, 9)
    assert (frame.ori_shape, frame.img_shape, frame.scale_factor, frame.flip) == ((8, 8), (4, 6), .5, False)
    assert 'gt_instances' not in frame and 'ori_img' not in frame and 'bad_frame' not in frame


def test_frames_of_different_sizes_are_padded():
    packed = PackTrackInputs()({'frames': [make_frame(4, 3, 0), make_frame(2, 6, 1)]})
    assert packed['inputs'].shape == (2, 3, 4, 6)
    assert (packed['inputs'][0, :, :, :3] > 0).all() and not packed['inputs'][0, :, :, 3:].any()
    assert (packed['inputs'][1, :, :2] > 0).all() and not packed['inputs'][1, :, 2:].any()


def test_annotations():
    masks = np.asfortranarray(np.eye(4, 6, dtype=np.uint8))[None, ::-1]
    frame = make_frame(4, 6, 0, gt_bboxes=np.ones((1, 4), np.float32), gt_labels=np.array([2]), gt_masks=masks,
                       gt_instances_id=np.array([77]), ori_img=np.zeros((8, 8, 3), np.uint8), bad_frame=True)
    sample = PackTrackInputs()({'frames': [frame]})['data_samples'][0]
    found = sample.gt_instances
    assert found.bboxes.dtype == np.float32 and found.labels.dtype == found.instances_id.dtype == np.int64
    assert torch.equal(found.masks, torch.from_numpy(masks.copy())) and found.masks.is_contiguous()
    assert found.labels.tolist() == [2] and found.instances_id.tolist() == [77]
    assert sample.ori_img.shape == (8, 8, 3) and sample.bad_frame is True
