"""Preprocessing of collated clips; the first step of a detector in training and in testing."""
from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserError
from mmdet.registry import MODELS
from mmdet.structures import TrackDataSample
from mmdet.structures.instances import add_metainfo, copy_sample


@MODELS.register_module()
class TrackDataPreprocessor(BaseDataPreprocessor):
    """Copy clips to the device, normalise, pad and stack them; pad ``gt_instances.masks`` to the same size.

    Args:
        mean, std: mean and standard deviation of the three channels (0–255), in the order of the network's input.
        bgr_to_rgb: whether the network's input is RGB; files are read as BGR.
        pad_size_divisor: images are padded with zeros at the bottom and the right to a multiple of this.
        non_blocking: whether copies from pinned memory are asynchronous.
        pad_buckets: in training, a batch is padded to the smallest of these sizes, each a long and a short side, that
            it fits within; its longer axis gets the long side. A batch that fits within none is padded as without
            them. Few sizes make few different steps, which ``model.graph_training`` captures as CUDA graphs.

    Raises:
        UserError: a side of ``pad_buckets`` is not a positive multiple of ``pad_size_divisor``.
    """

    mean: Tensor
    std: Tensor
    deterministic_forward = True  # uses no random numbers and no state

    def __init__(self,
                 mean: Sequence[float] = (123.675, 116.28, 103.53),
                 std: Sequence[float] = (58.395, 57.12, 57.375),
                 bgr_to_rgb: bool = True,
                 pad_size_divisor: int = 32,
                 non_blocking: bool = True,
                 pad_buckets: Sequence[Sequence[int]] = ()) -> None:
        super().__init__(non_blocking)
        self.bgr_to_rgb = bgr_to_rgb
        self.pad_size_divisor = pad_size_divisor
        self.pad_buckets = sorted((_checked_bucket(bucket, pad_size_divisor) for bucket in pad_buckets), key=prod)
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(3, 1, 1), persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Move a batch to the device, normalise and pad it.

        Args:
            data: ``inputs``: N clips (T, 3, h, w) uint8 BGR of equal T; ``data_samples``: N :class:`TrackDataSample`.
            training: whether to pad to one of ``pad_buckets``; everything else is the same in training and testing.

        Returns:
            ``inputs`` (N, T, 3, H, W) float32 and copies of ``data_samples``, both on the device; each frame has
            ``batch_input_shape`` (H, W).
        """
        clips: list[Tensor] = self.cast_data(list(data['inputs']))
        samples = [_copy(sample) for sample in data['data_samples']]
        height, width = self._padded_size(clips, self.pad_buckets if training else ())
        batch = self.mean.new_empty((len(clips), clips[0].shape[0], 3, height, width))
        if all(clip.shape == clips[0].shape for clip in clips):
            self._normalize(torch.stack(clips), batch)
        else:
            for clip, target in zip(clips, batch):
                self._normalize(clip, target)
        for target, clip, sample in zip(batch, clips, samples, strict=True):
            for image, frame in zip(target, sample, strict=True):
                h, w = frame.img_shape
                if (h, w) != tuple(clip.shape[2:]):  # padding in the clip was normalised, too
                    image[:, h:] = 0
                    image[:, :, w:] = 0
                add_metainfo(frame, {'batch_input_shape': (height, width)})
        self._move([frame.gt_instances for sample in samples for frame in sample if 'gt_instances' in frame],
                   height, width)
        return {'inputs': batch, 'data_samples': samples}

    def _padded_size(self, clips: Sequence[Tensor], buckets: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """Return the height and width to which a batch is padded; ``buckets`` are in ascending order of their areas."""
        height, width = (-(-max(clip.shape[side] for clip in clips) // self.pad_size_divisor) * self.pad_size_divisor
                         for side in (2, 3))
        for long, short in buckets:
            if max(height, width) <= long and min(height, width) <= short:
                return (short, long) if width >= height else (long, short)
        return height, width

    def _normalize(self, clips: Tensor, target: Tensor) -> None:
        """Normalise (..., 3, h, w) uint8 into the upper left corner of ``target`` (..., 3, H, W); the rest is 0."""
        height, width = clips.shape[-2:]
        target[..., height:, :] = 0
        target[..., width:] = 0
        # one channel at a time: on a CPU, contiguous rows of pixels are several times faster
        for channel, (mean, std) in enumerate(zip(self.mean, self.std)):
            source = clips[..., 2 - channel if self.bgr_to_rgb else channel, :, :]
            target[..., channel, :height, :width].copy_(source).sub_(mean).div_(std)

    def _move(self, instances: Sequence[InstanceData], height: int, width: int) -> None:
        """Move annotations to the device as tensors; pad masks, and copy each other field of all frames at once."""
        for field in dict.fromkeys(field for item in instances for field in item.all_keys()):
            having = [item for item in instances if field in item]
            values = [torch.as_tensor(item[field]) for item in having]
            if field == 'masks':
                values = _padded(self.cast_data(values), height, width)
            else:
                counts = [len(value) for value in values]
                values = list(torch.cat(values).to(self.device, non_blocking=True).split(counts))
            for item, value in zip(having, values):
                item.set_field(value, field)


def _checked_bucket(bucket: Sequence[int], divisor: int) -> tuple[int, int]:
    """Return the long and the short side of a bucket; raise UserError unless the size is possible."""
    if (not isinstance(bucket, list | tuple) or len(bucket) != 2
            or not all(isinstance(side, int) and side > 0 and side % divisor == 0 for side in bucket)):
        raise UserError(f'data_preprocessor.pad_buckets has {bucket!r}; a size is a long and a short side, both '
                        f'multiples of pad_size_divisor={divisor}')
    return max(bucket), min(bucket)


def _copy(sample: TrackDataSample) -> TrackDataSample:
    """Copy a sample so that its annotations can be replaced without changing the original."""
    frames = [copy_sample(frame) for frame in sample]
    for frame in frames:
        if 'gt_instances' in frame:
            frame.gt_instances = frame.gt_instances.new()
    return sample.new(video_data_samples=frames)


def _padded(masks: list[Tensor], height: int, width: int) -> list[Tensor]:
    """Pad masks (n, h, w) with zeros at the bottom and the right."""
    if masks[0].is_cuda and all(mask.shape[1:] == masks[0].shape[1:] for mask in masks):
        # in one operation, since launching a kernel takes longer than its computation
        return list(_pad(torch.cat(masks), height, width).split([len(mask) for mask in masks]))
    return [_pad(mask, height, width) for mask in masks]


def _pad(masks: Tensor, height: int, width: int) -> Tensor:
    h, w = masks.shape[1:]
    return masks if (h, w) == (height, width) else F.pad(masks, (0, width - w, 0, height - h))
