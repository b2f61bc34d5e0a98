"""Large-scale jitter of clips: a random scale, then a crop or padding to a fixed size; used in training pipelines."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform

from mmdet.arguments import checked_count, checked_number, checked_numbers, checked_range
from mmdet.datasets.transforms.geometry import checked_scale, keep_ratio_factor
from mmdet.datasets.transforms.objects import mask_areas, replace_masks, warp_image, warp_masks
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomScaleCropClip(BaseTransform):
    """Scale a clip at random and crop or pad it to a fixed size, as in Simple Copy-Paste (arXiv 2012.07177).

    The clip is first scaled to fit within ``size``, then by the random factor s. Along each axis on which the result is
    longer than the size, a random part of it is kept; along the others it is at a random place and the rest is filled.
    The part contains the centre of a random object of the first frame that has one. All images get exactly the same
    size, so that training steps have a fixed shape (``model.graph_training``).

    All of this is a single interpolation: bilinear for images, nearest-neighbour for masks. Boxes become the bounding
    boxes of the remaining masks (x2 and y2 inclusive); ids do not change. ``img_shape`` is the fixed size,
    ``scale_factor`` is multiplied by the total factor.

    Args:
        size: long and short side of the result, in pixels; the long side is along the longer side of the clip. None:
            the size of the clip, for data sets whose videos all have the same size or have been resized to it.
        scale: range of s, from which it is drawn uniformly.
        drift: largest movement of the crop from the first to the last frame, at constant speed, as a share of the
            width and of the height of the result.
        min_area: minimum number of remaining pixels of an object; others are removed from the frame.
        min_share: minimum share of an object's pixels, after scaling, that remain.
        prob: probability; otherwise s is 1 and the clip is at the upper left.
        fill: BGR colour outside the image. The default is the mean colour of ImageNet, which is about 0 after
            normalisation, like the padding of batches.
    """

    def __init__(self, size: Sequence[int] | None = None, scale: Sequence[float] = (.3, 2.), drift: float = 0.,
                 min_area: int = 16, min_share: float = .1, prob: float = 1.,
                 fill: Sequence[float] = (104, 116, 124)) -> None:
        name = type(self).__name__
        self.size = None if size is None else checked_scale(f'{name}.size', size)
        self.scale = checked_range(f'{name}.scale', scale, .01, 100)
        self.drift = checked_number(f'{name}.drift', drift, 0, 1)
        self.min_area = checked_count(f'{name}.min_area', min_area, 1)
        self.min_share = checked_number(f'{name}.min_share', min_share, 0, 1)
        self.prob = checked_number(f'{name}.prob', prob, 0, 1)
        self.fill = checked_numbers(f'{name}.fill', fill, 3, 0, 255)

    def transform(self, results: dict) -> dict:
        rng, frames = results['rng'], results['frames']
        height, width = frames[0]['img_shape']
        scale = self.size or (height, width)
        long, short = max(scale), min(scale)
        size = (short, long) if width >= height else (long, short)
        jitter = rng.random() < self.prob
        factor = keep_ratio_factor(height, width, scale) * (rng.uniform(*self.scale) if jitter else 1.)
        lengths = np.array([width, height]) * factor
        offset = _random_offset(lengths, np.array(size[::-1]), _centre(frames, rng) * lengths, rng) if jitter else 0.
        path = rng.uniform(-self.drift, self.drift, 2) * size[::-1] if jitter and self.drift else np.zeros(2)
        for number, frame in enumerate(frames):
            shift = offset + path * number / max(len(frames) - 1, 1)
            # pixel x has its centre at x + ½
            matrix = np.column_stack([np.eye(2) * factor, shift + (factor - 1) / 2])
            frame['img'] = warp_image(frame['img'], matrix, size, self.fill)
            frame.update(img_shape=size, scale_factor=frame['scale_factor'] * factor)
            if 'gt_masks' in frame:
                least = np.maximum(mask_areas(frame['gt_masks']) * factor ** 2 * self.min_share, self.min_area)
                replace_masks(frame, warp_masks(frame['gt_masks'], matrix, size), least)
        return results


def _centre(frames: Sequence[dict], rng: np.random.Generator) -> np.ndarray:
    """Return the box centre (x, y) of a random object of the first frame that has one, as shares of the image.

    Without any object, a random point is returned.
    """
    height, width = frames[0]['img_shape']
    boxes = next((frame['gt_bboxes'] for frame in frames if len(frame.get('gt_bboxes', ()))), None)
    if boxes is None:
        return rng.random(2)
    box = boxes[int(rng.integers(len(boxes)))]
    return np.clip((box[:2] + box[2:] + 1) / 2 / (width, height), 0, 1)


def _random_offset(lengths: np.ndarray, size: np.ndarray, point: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the position x, y of a scaled image in the result.

    The image covers the result along axes on which it is longer, and lies within it along the others; the point, given
    in pixels of the scaled image, lies within the result.
    """
    low, high = np.minimum(size - lengths, 0), np.maximum(size - lengths, 0)
    return rng.uniform(np.clip(-point, low, high), np.clip(size - point, low, high))
