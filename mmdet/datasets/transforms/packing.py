"""Last step of the pipelines: a clip becomes what the data loader collates."""
from __future__ import annotations

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import InstanceData

from mmdet.registry import TRANSFORMS
from mmdet.structures import DetDataSample, TrackDataSample

META_KEYS = ('img_path', 'video_id', 'frame_id', 'video_length', 'ori_shape', 'img_shape', 'scale_factor', 'flip')

# set where they are true only
FLAGS = ('bad_frame', 'is_context')


@TRANSFORMS.register_module()
class PackTrackInputs(BaseTransform):
    """Return ``inputs``, (T, 3, H, W) uint8 BGR, and ``data_samples``, a :class:`TrackDataSample` of T frames.

    Frames smaller than the clip's largest are padded with zeros at the bottom and the right. ``gt_instances`` is there
    if annotations were loaded, ``ori_img`` if the loader kept it. Fields: see :class:`DetDataSample`; of
    ``gt_instances`` all but the masks are still numpy arrays.
    """

    def transform(self, results: dict) -> dict:
        frames = results['frames']
        height, width = np.max([frame['img_shape'] for frame in frames], axis=0).tolist()
        # channels stay last in memory: reordering them is cheaper on the device than here
        images = torch.zeros((len(frames), height, width, 3), dtype=torch.uint8)
        for image, frame in zip(images.numpy(), frames):
            h, w = frame['img_shape']
            image[:h, :w] = frame['img']
        sample = TrackDataSample()
        sample.video_data_samples = [_pack_frame(frame) for frame in frames]
        return {'inputs': images.permute(0, 3, 1, 2), 'data_samples': sample}


def _pack_frame(frame: dict) -> DetDataSample:
    sample = DetDataSample(metainfo={key: frame[key] for key in META_KEYS})
    sample.set_metainfo({key: True for key in FLAGS if frame.get(key)})
    if 'ori_img' in frame:
        sample.ori_img = frame['ori_img']
    if 'gt_bboxes' in frame:
        # A tensor travels from worker to main process in an open file of its own: worth it for masks, not for a few
        # numbers. The data preprocessor makes tensors of these. (ascontiguousarray would leave the backward stride of
        # a flipped mask that is one pixel wide.)
        sample.gt_instances = InstanceData(
            bboxes=frame['gt_bboxes'], labels=frame['gt_labels'], instances_id=frame['gt_instances_id'],
            masks=torch.from_numpy(np.array(frame['gt_masks'], order='C')))
    return sample
