"""Augmentation of clips in the training of VidEoMT: random scales, crops and rotations of still images, as in the
released configuration (github.com/tue-mps/videomt).

Random parameters are drawn once per clip. All transforms change ``img``, ``img_shape`` and, where
:class:`LoadTrackAnnotations` has loaded them, boxes and masks.
"""
from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmdet.arguments import checked_count, checked_number, checked_range
from mmdet.datasets.transforms.geometry import checked_backend, checked_scale, resize_clip
from mmdet.datasets.transforms.objects import replace_masks, warp_image, warp_masks
from mmdet.errors import UserError
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomChoiceResizeClip(BaseTransform):
    """Resize a clip to a random one of several scales, see :class:`ResizeClip`.

    Args:
        scales: long and short side of each scale, in pixels.
        backend: see :class:`ResizeClip`.
    """

    def __init__(self, scales: Sequence[Sequence[int]], backend: str = 'opencv') -> None:
        if not isinstance(scales, (list, tuple)) or not scales:
            raise UserError(f'RandomChoiceResizeClip.scales must be a list of at least one scale, not {scales!r}')
        self.scales = [checked_scale('RandomChoiceResizeClip.scales', scale) for scale in scales]
        self.backend = checked_backend(backend)

    def transform(self, results: dict) -> dict:
        scale = self.scales[int(results['rng'].integers(len(self.scales)))]
        return resize_clip(results, scale, backend=self.backend)


@TRANSFORMS.register_module()
class RandomResizeCropClip(BaseTransform):
    """Resize a clip to a random one of several scales and crop a random rectangle, or do neither.

    Height and width of the rectangle are drawn independently from [min(crop[0], side), min(crop[1], side)]. Objects
    without remaining pixels in a frame are removed from it; boxes become the bounding boxes of the remaining masks.

    Args:
        scales: see :class:`RandomChoiceResizeClip`.
        crop: smallest and largest side of the rectangle, in pixels.
        prob: probability of resizing and cropping, 0–1.
        backend: see :class:`ResizeClip`.
    """

    def __init__(self, scales: Sequence[Sequence[int]], crop: Sequence[int], prob: float = 0.5,
                 backend: str = 'opencv') -> None:
        self.resize = RandomChoiceResizeClip(scales, backend)
        checked_range('RandomResizeCropClip.crop', crop, 1)
        self.crop = tuple(checked_count('RandomResizeCropClip.crop', side, 1) for side in crop)
        self.prob = checked_number('RandomResizeCropClip.prob', prob, 0, 1)

    def transform(self, results: dict) -> dict:
        rng = results['rng']
        if rng.random() >= self.prob:
            return results
        results = self.resize.transform(results)
        sides = results['frames'][0]['img_shape']
        size = [int(rng.integers(min(self.crop[0], side), min(self.crop[1], side) + 1)) for side in sides]
        top, left = (int(rng.integers(side - length + 1)) for side, length in zip(sides, size))
        rows, columns = slice(top, top + size[0]), slice(left, left + size[1])
        for frame in results['frames']:
            frame.update(img=frame['img'][rows, columns], img_shape=tuple(size))
            if 'gt_masks' in frame:
                replace_masks(frame, frame['gt_masks'][:, rows, columns])
        return results


@TRANSFORMS.register_module()
class RotateStillClip(BaseTransform):
    """Rotate the frames of a clip of a still image: frame t by the t-th of T sorted random angles.

    The angles are uniform and, with equal probability, in ascending or descending order; all rotations have the same
    centre. The frames keep their size and are black outside the image. Objects without remaining pixels in a frame are
    removed from it; boxes become the bounding boxes of the remaining masks.

    Args:
        angle: largest angle in degrees.
        center: range from which the centre is drawn uniformly, in shares of the width and of the height.
    """

    def __init__(self, angle: float = 15, center: Sequence[float] = (0.4, 0.6)) -> None:
        self.angle = checked_number('RotateStillClip.angle', angle, 0, 180)
        self.center = checked_range('RotateStillClip.center', center, 0, 1)

    def transform(self, results: dict) -> dict:
        rng, frames = results['rng'], results['frames']
        height, width = frames[0]['img_shape']
        x, y = rng.uniform(*self.center, 2) * (width, height)
        angles = np.sort(rng.uniform(-self.angle, self.angle, len(frames)))
        if rng.random() < 0.5:
            angles = angles[::-1]
        for frame, angle in zip(frames, angles.tolist()):
            matrix = cv2.getRotationMatrix2D((x, y), angle, 1.0)
            frame['img'] = warp_image(frame['img'], matrix)
            if 'gt_masks' in frame:
                replace_masks(frame, warp_masks(frame['gt_masks'], matrix))
        return results
