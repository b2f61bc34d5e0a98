"""Resizing and flipping of clips: random numbers are drawn once and hold for all frames.

Both change ``img``, ``img_shape`` and, where :class:`LoadTrackAnnotations` put them, ``gt_bboxes`` and ``gt_masks``.
"""
from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from mmdet.errors import UserError
from mmdet.registry import TRANSFORMS


def keep_ratio_factor(height: int, width: int, scale: tuple[int, int]) -> float:
    """The largest factor with which an image fits into long × short sides."""
    long, short = max(scale), min(scale)
    return min(long / max(height, width), short / min(height, width))


def scaled_size(height: int, width: int, factor: float) -> tuple[int, int]:
    """Height and width times a factor, rounded half up; a side never vanishes."""
    return max(int(height * factor + .5), 1), max(int(width * factor + .5), 1)


def resize_clip(results: dict, scale: tuple[int, int], keep_ratio: bool = True, backend: str = 'opencv') -> dict:
    """Resize every frame of a clip with its objects, as :class:`ResizeClip` says."""
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
    """Boxes (n, 4) limited to [0, width] and [0, height]."""
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float32))


def _resize_masks(masks: np.ndarray, height: int, width: int, backend: str) -> np.ndarray:
    """Nearest pixel, as the backend has it: (n, h, w) → (n, height, width) uint8."""
    if masks.shape[1:] == (height, width):
        return masks
    # decoded masks lie column by column in memory; resized as they lie, they need no copy at full size
    columns = np.ascontiguousarray(masks.transpose(0, 2, 1))
    resized = np.empty((len(masks), height, width), np.uint8)
    nearest = cv2.INTER_NEAREST_EXACT if backend == 'pillow' else cv2.INTER_NEAREST
    for source, target in zip(columns, resized):
        cv2.transpose(cv2.resize(source, (height, width), interpolation=nearest), dst=target)
    return resized


@TRANSFORMS.register_module()
class ResizeClip(BaseTransform):
    """Resize every frame to fit a fixed scale, keeping its ratio: bilinear images, nearest masks.

    ``scale_factor`` becomes the factor (network pixels per original pixel); sides are int(side · factor + ½); boxes are
    multiplied by the factor and clipped to [0, W] and [0, H].

    Args:
        scale: long and short side, in pixels; the image fits within both.
        keep_ratio: False: the image becomes exactly ``scale``, width and height; ``scale_factor`` is the geometric mean
            of both factors.
        backend: of images: ``'opencv'``, or ``'pillow'``, which smooths what it makes smaller.
    """

    def __init__(self, scale: Sequence[int], keep_ratio: bool = True, backend: str = 'opencv') -> None:
        self.scale = checked_scale(scale)
        self.keep_ratio = keep_ratio
        self.backend = checked_backend(backend)

    def transform(self, results: dict) -> dict:
        return resize_clip(results, self.scale, self.keep_ratio, self.backend)


@TRANSFORMS.register_module()
class RandomResizeClip(BaseTransform):
    """As :class:`ResizeClip`, to a scale drawn once for the clip.

    Args:
        scales: one scale, or two that bound a range: long side and short side are drawn uniformly and independently,
            both ends included.
    """

    def __init__(self, scales: Sequence[Sequence[int]]) -> None:
        if not isinstance(scales, (list, tuple)) or len(scales) not in (1, 2):
            raise UserError(f'RandomResizeClip.scales needs one scale or two that bound a range, not {scales!r}')
        self.scales = [checked_scale(scale) for scale in scales]

    def transform(self, results: dict) -> dict:
        first, last = self.scales[0], self.scales[-1]
        long, short = (int(results['rng'].integers(min(pair), max(pair) + 1))
                       for pair in ((max(first), max(last)), (min(first), min(last))))
        return resize_clip(results, (long, short))


@TRANSFORMS.register_module()
class RandomFlipClip(BaseTransform):
    """Mirror all frames left to right, or none: x' = W − 1 − x; set ``flip``.

    Args:
        prob: probability of mirroring, 0–1.
    """

    def __init__(self, prob: float = .5) -> None:
        if not isinstance(prob, (int, float)) or not 0 <= prob <= 1:
            raise UserError(f'RandomFlipClip.prob must be a number from 0 to 1, not {prob!r}')
        self.prob = prob

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


def checked_scale(scale: Sequence[int]) -> tuple[int, int]:
    """Return the scale as a pair; raise UserError unless it is two positive integers."""
    if not isinstance(scale, (list, tuple)) or len(scale) != 2 or not all(
            isinstance(side, int) and side > 0 for side in scale):
        raise UserError(f'a scale is two positive integers (long side, short side), not {scale!r}')
    return scale[0], scale[1]


def checked_backend(backend: str) -> str:
    """The name, if it is a backend's; raises UserError."""
    if backend not in ('opencv', 'pillow'):
        raise UserError(f"backend must be 'opencv' or 'pillow', not {backend!r}")
    return backend
