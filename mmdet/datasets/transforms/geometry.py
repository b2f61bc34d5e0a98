"""Resizing and flipping of clips; random parameters are drawn once per clip.

All transforms change ``img``, ``img_shape`` and, where :class:`LoadTrackAnnotations` has loaded them, ``gt_bboxes`` and
``gt_masks``.
"""
from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from mmdet.arguments import checked_number
from mmdet.errors import UserError
from mmdet.registry import TRANSFORMS

_LARGEST_SIDE = 2 ** 15 - 1  # of images in OpenCV's affine maps


def keep_ratio_factor(height: int, width: int, scale: tuple[int, int]) -> float:
    """Return the largest factor with which an image fits within a scale, its long and short side."""
    long, short = max(scale), min(scale)
    return min(long / max(height, width), short / min(height, width))


def scaled_size(height: int, width: int, factor: float) -> tuple[int, int]:
    """Return height and width times a factor, rounded half up and at least 1."""
    return max(int(height * factor + .5), 1), max(int(width * factor + .5), 1)


def resize_clip(results: dict, scale: tuple[int, int], keep_ratio: bool = True, backend: str = 'opencv') -> dict:
    """Resize every frame of a clip with its objects; for arguments see :class:`ResizeClip`."""
    for frame in results['frames']:
        height, width = frame['img'].shape[:2]
        if keep_ratio:
            factor = keep_ratio_factor(height, width, scale)
            size, factors = scaled_size(height, width, factor), (factor, factor)
        else:
            size, factors = scale[::-1], (scale[0] / width, scale[1] / height)
            factor = (factors[0] * factors[1]) ** 0.5
        frame['img'] = _resize_image(frame['img'], *size, backend)
        frame.update(img_shape=size, scale_factor=frame['scale_factor'] * factor)
        if 'gt_bboxes' in frame:
            frame['gt_bboxes'] = _clip_boxes(frame['gt_bboxes'] * np.array(factors * 2, np.float32), *size)
            frame['gt_masks'] = _resize_masks(frame['gt_masks'], *size, backend)
    return results


def _resize_image(image: np.ndarray, height: int, width: int, backend: str) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image
    if backend == 'pillow':
        resized = Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(resized)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def _clip_boxes(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Clip boxes (n, 4) to [0, width] and [0, height]."""
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float32))


def _resize_masks(masks: np.ndarray, height: int, width: int, backend: str) -> np.ndarray:
    """Resize masks with the nearest-neighbour interpolation of a backend: (n, h, w) → (n, height, width) uint8."""
    if masks.shape[1:] == (height, width):
        return masks
    # decoded masks are column-major: their transposes are resized, which avoids a copy at full size
    columns = np.ascontiguousarray(masks.transpose(0, 2, 1))
    resized = np.empty((len(masks), height, width), np.uint8)
    nearest = cv2.INTER_NEAREST_EXACT if backend == 'pillow' else cv2.INTER_NEAREST
    for source, target in zip(columns, resized):
        cv2.transpose(cv2.resize(source, (height, width), interpolation=nearest), dst=target)
    return resized


@TRANSFORMS.register_module()
class ResizeClip(BaseTransform):
    """Resize every frame to fit within a fixed scale.

    Interpolation is bilinear for images and nearest-neighbour for masks. ``scale_factor`` is multiplied by the factor
    (network pixels per original pixel). Sides become int(side · factor + ½); boxes are multiplied by the factor and
    clipped to [0, W] and [0, H].

    Args:
        scale: long and short side, in pixels; the image fits within both.
        keep_ratio: keep the aspect ratio; False: the image gets exactly the width and height of ``scale``, and the
            factor is the geometric mean of both factors.
        backend: library that resizes images: ``'opencv'``, or ``'pillow'``, which filters against aliasing.
    """

    def __init__(self, scale: Sequence[int], keep_ratio: bool = True, backend: str = 'opencv') -> None:
        self.scale = checked_scale('ResizeClip.scale', scale)
        self.keep_ratio = keep_ratio
        self.backend = checked_backend(backend)

    def transform(self, results: dict) -> dict:
        return resize_clip(results, self.scale, self.keep_ratio, self.backend)


@TRANSFORMS.register_module()
class RandomResizeClip(BaseTransform):
    """Resize a clip to a random scale, see :class:`ResizeClip`.

    The scales of a batch are those of the batches of all other processes, in the same order, so that padding makes them
    equally large and processes do not wait for each other. Published: each process draws its own.

    Args:
        scales: one scale, or two that bound a range, from which the long and the short side are drawn uniformly and
            independently, both bounds inclusive.
        per_step: draw once for all clips of a training step, where the batches come from ``AspectRatioBatchSampler``:
            less padding. Each clip alone has the same distribution of scales. Published: False.
    """

    def __init__(self, scales: Sequence[Sequence[int]], per_step: bool = False) -> None:
        if not isinstance(scales, (list, tuple)) or len(scales) not in (1, 2):
            raise UserError(f'RandomResizeClip.scales needs one scale or two that bound a range, not {scales!r}')
        self.scales = [checked_scale('RandomResizeClip.scales', scale) for scale in scales]
        self.per_step = per_step

    def transform(self, results: dict) -> dict:
        first, last = self.scales[0], self.scales[-1]
        rng = results['step_rng'] if self.per_step else results.get('place_rng', results['rng'])
        long, short = (int(rng.integers(min(pair), max(pair) + 1))
                       for pair in ((max(first), max(last)), (min(first), min(last))))
        return resize_clip(results, (long, short))


@TRANSFORMS.register_module()
class RandomFlipClip(BaseTransform):
    """Flip all frames horizontally, x' = W − 1 − x, or none; ``flip`` is set accordingly.

    Args:
        prob: probability of flipping, in [0, 1].
    """

    def __init__(self, prob: float = .5) -> None:
        self.prob = checked_number('RandomFlipClip.prob', prob, 0, 1)

    def transform(self, results: dict) -> dict:
        if results['rng'].random() >= self.prob:
            return results
        for frame in results['frames']:
            frame['img'] = frame['img'][:, ::-1]
            frame['flip'] = not frame['flip']
            if 'gt_bboxes' in frame:
                height, width = frame['img_shape']
                x1, y1, x2, y2 = frame['gt_bboxes'].T
                flipped = np.stack([width - 1 - x2, y1, width - 1 - x1, y2], axis=1)
                frame['gt_bboxes'] = _clip_boxes(flipped, height, width)
                frame['gt_masks'] = frame['gt_masks'][:, :, ::-1]
        return results


def checked_scale(name: str, scale: Sequence[int]) -> tuple[int, int]:
    """Return the scale as a pair; raise UserError unless it is two positive integers that OpenCV supports as sides."""
    if not isinstance(scale, (list, tuple)) or len(scale) != 2 or not all(
            type(side) is int and 0 < side <= _LARGEST_SIDE for side in scale):
        raise UserError(f'{name}: a scale is two positive integers (long side, short side), at most {_LARGEST_SIDE}, '
                        f'not {scale!r}')
    return scale[0], scale[1]


def checked_backend(backend: str) -> str:
    """Return the name of a backend; raise UserError unless it is known."""
    if backend not in ('opencv', 'pillow'):
        raise UserError(f"backend must be 'opencv' or 'pillow', not {backend!r}")
    return backend
