"""Augmentation of the reference frame of a pseudo-video; used with ``COCOVIS``, after the loading transforms."""
from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmdet.arguments import checked_count, checked_number
from mmdet.datasets.transforms.objects import keep_objects, mask_areas, mask_extents, warp_image, warp_masks
from mmdet.datasets.transforms.photometric import adjust_colours
from mmdet.errors import UserError
from mmdet.registry import TRANSFORMS

_BLUR_KERNEL, _BLUR_SIGMA = (9, 11), (.1, 2.)


@TRANSFORMS.register_module()
class AffineColourReference(BaseTransform):
    """Change the colours, rotate, translate and blur the last frame of a clip and its objects.

    A clip of one frame, which has no reference frame, does not change.

    Colours: brightness, contrast and saturation are multiplied by a factor drawn from 1 ± their strength, in random
    order with a hue shift of up to ± its strength (in full turns); the image is BGR. Geometry: one affine map, a
    rotation about the centre and a translation, with bilinear interpolation for the image, nearest-neighbour
    interpolation for the masks, and black outside the image. Blur: Gaussian of 9 × 11 pixels, σ in [0.1, 2]. Boxes
    become the bounding boxes of their masks (x2 and y2 inclusive).

    Objects with fewer than ``min_area`` visible pixels are removed from either frame, so that an object is in both
    frames only if enough of it is visible in both. If the frames have no object in common, the reference frame gets the
    objects of the key frame with ids that match none of them.

    Args:
        brightness, contrast, saturation, hue: strengths.
        rotation: largest angle in degrees.
        translation: largest translations as shares of the width and height; one translation is drawn for each entry,
            and they are added. The published code calls the first one perspective.
        blur_prob: probability of the blur.
        min_area: minimum number of visible pixels of an object.
    """

    def __init__(self, brightness: float = .1, contrast: float = .02, saturation: float = .02, hue: float = .05,
                 rotation: int = 20, translation: Sequence[float] = (.08, .1), blur_prob: float = .25,
                 min_area: int = 9) -> None:
        for name, value, limit in (('brightness', brightness, 1), ('contrast', contrast, 1),
                                   ('saturation', saturation, 1), ('hue', hue, .5), ('rotation', rotation, 180),
                                   ('blur_prob', blur_prob, 1)):
            checked_number(f'AffineColourReference.{name}', value, 0, limit)
        if not isinstance(translation, (list, tuple)) or not all(
                isinstance(share, (int, float)) and 0 <= share <= 1 for share in translation):
            raise UserError('AffineColourReference.translation must be a list of numbers from 0 to 1, not '
                            f'{translation!r}')
        self.strengths = (brightness, contrast, saturation, hue)
        self.rotation = rotation
        self.translation = tuple(translation)
        self.blur_prob = blur_prob
        self.min_area = checked_count('AffineColourReference.min_area', min_area, 0)

    def transform(self, results: dict) -> dict:
        rng, (key, *others) = results['rng'], results['frames']
        if not others:
            return results
        frame = others[-1]
        frame['img'] = self._recolour(frame['img'], rng)
        height, width = frame['img_shape']
        matrix = self._matrix(height, width, rng)
        frame['img'] = warp_image(frame['img'], matrix)
        if rng.random() < self.blur_prob:
            frame['img'] = cv2.GaussianBlur(frame['img'], _BLUR_KERNEL, rng.uniform(*_BLUR_SIGMA))
        if 'gt_masks' in frame:
            masks = warp_masks(frame['gt_masks'], matrix)
            keep_objects(key, mask_areas(key['gt_masks']) >= self.min_area)
            self._place(key, frame, masks)
        return results

    def _place(self, key: dict, frame: dict, masks: np.ndarray) -> None:
        """Set the frame's objects from their transformed masks."""
        seen = mask_areas(masks) >= self.min_area
        if np.isin(frame['gt_instances_id'][seen], key['gt_instances_id']).any():
            frame.update(gt_masks=masks, gt_bboxes=mask_extents(masks))
            keep_objects(frame, seen)
        else:
            frame.update(gt_masks=key['gt_masks'], gt_bboxes=key['gt_bboxes'].copy(), gt_labels=key['gt_labels'].copy(),
                         gt_instances_id=-1 - np.arange(len(key['gt_labels'])))

    def _recolour(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        changes = rng.uniform(-1, 1, 4) * self.strengths
        return adjust_colours(image, changes, rng.permutation(4))

    def _matrix(self, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the affine map (2, 3) of pixels x, y, 1."""
        angle = int(rng.integers(-self.rotation, max(self.rotation, 1)))
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.).astype(np.float64)
        for largest in self.translation:
            matrix[:, 2] += rng.uniform(-largest, largest, 2) * (width, height)
        return matrix
