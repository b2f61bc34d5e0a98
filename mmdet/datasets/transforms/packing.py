"""Last transform of the pipelines: pack a clip into the tensors and samples that the data loader collates."""
from __future__ import annotations

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import InstanceData

from mmdet.registry import TRANSFORMS
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.instances import add_metainfo

META_KEYS = ('img_path', 'video_id', 'frame_id', 'video_length', 'ori_shape', 'img_shape', 'scale_factor', 'flip')

# metainfo that is set only where it is true
FLAGS = ('bad_frame', 'is_context')


@TRANSFORMS.register_module()
class PackTrackInputs(BaseTransform):
    """Return ``inputs``, (T, 3, H, W) uint8 BGR, and ``data_samples``, a :class:`TrackDataSample` of T frames.

    Frames that are smaller than the largest of the clip are padded with zeros at the bottom and the right. Samples have
    ``gt_instances`` if annotations were loaded, and ``ori_img`` if it was kept, see :class:`DetDataSample`. The fields
    of ``gt_instances`` except the masks are NumPy arrays.
    """

    def transform(self, results: dict) -> dict:
        frames = results['frames']
        height, width = np.max([frame['img_shape'] for frame in frames], axis=0).tolist()
        padded = any(tuple(frame['img_shape']) != (height, width) for frame in frames)
        # channels stay last in memory: reordering them is cheaper on the GPU
        images = (torch.zeros if padded else torch.empty)((len(frames), height, width, 3), dtype=torch.uint8)
        for image, frame in zip(images.numpy(), frames):
            h, w = frame['img_shape']
            image[:h, :w] = frame['img']
        sample = TrackDataSample()
        sample.video_data_samples = [_pack_frame(frame) for frame in frames]
        return {'inputs': images.permute(0, 3, 1, 2), 'data_samples': sample}


def _pack_frame(frame: dict) -> DetDataSample:
    sample = DetDataSample()
    add_metainfo(sample, {key: frame[key] for key in META_KEYS} | {key: True for key in FLAGS if frame.get(key)})
    if 'ori_img' in frame:
        sample.ori_img = frame['ori_img']
    if 'gt_bboxes' in frame:
        # Each tensor is sent from the worker to the main process in an open file of its own, which pays off for masks
        # only. The data preprocessor converts the other fields to tensors. (ascontiguousarray would keep the negative
        # stride of a flipped mask that is one pixel wide.)
        sample.gt_instances = InstanceData(
            bboxes=frame['gt_bboxes'], labels=frame['gt_labels'], instances_id=frame['gt_instances_id'],
            masks=torch.from_numpy(np.array(frame['gt_masks'], order='C')))
    return sample
