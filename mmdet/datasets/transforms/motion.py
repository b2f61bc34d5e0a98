"""Smooth affine motion of a clip, as of a moving camera: makes videos of still images; used in training pipelines."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform

from mmdet.arguments import checked_count, checked_number, checked_numbers, checked_range
from mmdet.datasets.transforms.objects import replace_masks, warp_image, warp_masks
from mmdet.registry import TRANSFORMS


def smooth_path(low: np.ndarray, high: np.ndarray, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a smooth path of n numbers within their limits: limits (n,) → (steps, n).

    The path is a quadratic Bézier curve with random control points, at even times from its start to its end. It stays
    within the convex hull of its control points, hence within the limits.
    """
    start, middle, end = rng.uniform(low, high, (3, len(low)))
    time = np.linspace(0, 1, steps)[:, None]
    return (1 - time) ** 2 * start + 2 * time * (1 - time) * middle + time ** 2 * end


@TRANSFORMS.register_module()
class AffineMotionClip(BaseTransform):
    """Move the frames of a clip of any length along one smooth path of affine maps.

    Frame t is scaled, sheared and rotated about the image centre, and translated. Each of these parameters follows a
    smooth random path from the first frame to the last, see :func:`smooth_path`. On clips of a still image
    (:class:`~mmdet.datasets.COCOVIS`) this yields a video in which all objects move consistently, in contrast to
    ``AffineColourReference``, which moves the last frame only, and to ``RotateStillClip``, which only rotates; on real
    videos it adds the motion of a camera.

    Frames keep their size. Boxes become the bounding boxes of the masks (x2 and y2 inclusive); ids do not change.

    Args:
        angle: largest rotation in degrees, to either side.
        translation: largest translations as shares of the width and of the height.
        scale: range of the scale, whose logarithm follows the path.
        shear: largest shear in degrees, along x.
        min_area: minimum number of remaining pixels of an object; others are removed from the frame.
        prob: probability.
        fill: BGR colour outside the image.
    """

    def __init__(self, angle: float = 10., translation: Sequence[float] = (.1, .1), scale: Sequence[float] = (.8, 1.25),
                 shear: float = 5., min_area: int = 16, prob: float = 1., fill: Sequence[float] = (0, 0, 0)) -> None:
        name = type(self).__name__
        zoom = checked_range(f'{name}.scale', scale, .01, 100)
        most = np.array([np.radians(checked_number(f'{name}.angle', angle, 0, 180)),
                         np.radians(checked_number(f'{name}.shear', shear, 0, 80)), np.log(zoom[1]),
                         *checked_numbers(f'{name}.translation', translation, 2, 0, 1)])
        self.high, self.low = most, -most
        self.low[2] = np.log(zoom[0])
        self.min_area = checked_count(f'{name}.min_area', min_area, 1)
        self.prob = checked_number(f'{name}.prob', prob, 0, 1)
        self.fill = checked_numbers(f'{name}.fill', fill, 3, 0, 255)

    def transform(self, results: dict) -> dict:
        rng, frames = results['rng'], results['frames']
        if rng.random() >= self.prob:
            return results
        for frame, pose in zip(frames, smooth_path(self.low, self.high, len(frames), rng)):
            matrix = affine_map(pose, *frame['img_shape'])
            frame['img'] = warp_image(frame['img'], matrix, fill=self.fill)
            if 'gt_masks' in frame:
                replace_masks(frame, warp_masks(frame['gt_masks'], matrix), self.min_area)
        return results


def affine_map(pose: np.ndarray, height: int, width: int) -> np.ndarray:
    """Compute the map (2, 3) of pixels x, y, 1 from a pose.

    Args:
        pose: rotation (counter-clockwise in the image) and shear in radians, logarithm of the scale, translations as
            shares of the width and the height.
        height, width: size of the image, about whose centre the map rotates.
    """
    angle, shear, log_scale, *shift = pose
    centre = np.array([width - 1, height - 1]) / 2
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    linear = np.exp(log_scale) * rotation @ np.array([[1, np.tan(shear)], [0, 1]])
    return np.column_stack([linear, centre - linear @ centre + np.array(shift) * (width, height)])
