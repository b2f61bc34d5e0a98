"""A second view of a still image: the reference frame of a pseudo-video; for ``COCOVIS``, after the loading steps."""
from __future__ import annotations

from collections.abc import Sequence

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform

from mmdet.datasets.transforms.objects import keep_objects, mask_areas, mask_extents, warp_masks
from mmdet.errors import UserError
from mmdet.registry import TRANSFORMS

_COLOUR_STEPS = (mmcv.adjust_brightness, mmcv.adjust_contrast, mmcv.adjust_color, mmcv.adjust_hue)
_BLUR_KERNEL, _BLUR_SIGMA = (9, 11), (.1, 2.)


@TRANSFORMS.register_module()
class AffineColourReference(BaseTransform):
    """Change colours, position, angle and sharpness of the clip's last frame, with its objects.

    Colours: brightness, contrast, saturation and hue, each by a factor drawn from 1 ± its strength (hue: a shift in
    turns), in BGR as loaded. Geometry: one affine map, a rotation about the centre and a translation; bilinear for the
    image, nearest for the masks, black outside. Blur: Gaussian, 9 × 11 pixels, σ .1 to 2. Boxes become their masks'
    extents (largest coordinate included).

    Objects of which fewer than ``min_area`` pixels remain are dropped with box, label and id; so an object is the same
    in both frames if enough of it is visible in both. If none remains, the reference keeps the key frame's boxes, under
    ids that match nothing.

    Args:
        brightness, contrast, saturation, hue: strengths.
        rotation: largest angle, in degrees.
        translation: largest shares of the width and height; one draw for each entry, added up. The published code's
            first one goes by the name of perspective.
        blur_prob: probability of the blur.
        min_area: visible pixels that an object of either frame needs.
    """

    def __init__(self, brightness: float = .1, contrast: float = .02, saturation: float = .02, hue: float = .05,
                 rotation: int = 20, translation: Sequence[float] = (.08, .1), blur_prob: float = .25,
                 min_area: int = 9) -> None:
        for name, value, limit in (('brightness', brightness, 1), ('contrast', contrast, 1),
                                   ('saturation', saturation, 1), ('hue', hue, .5), ('rotation', rotation, 180),
                                   ('blur_prob', blur_prob, 1)):
            if not isinstance(value, (int, float)) or not 0 <= value <= limit:
                raise UserError(f'AffineColourReference.{name} must be a number from 0 to {limit}, not {value!r}')
        if not isinstance(translation, (list, tuple)) or not all(
                isinstance(share, (int, float)) and 0 <= share <= 1 for share in translation):
            raise UserError('AffineColourReference.translation must be a list of numbers from 0 to 1, not '
                            f'{translation!r}')
        self.strengths = (brightness, contrast, saturation, hue)
        self.rotation = rotation
        self.translation = tuple(translation)
        self.blur_prob = blur_prob
        self.min_area = min_area

    def transform(self, results: dict) -> dict:
        rng, key, frame = results['rng'], results['frames'][0], results['frames'][-1]
        frame['img'] = self._recolour(frame['img'], rng)
        height, width = frame['img_shape']
        matrix = self._matrix(height, width, rng)
        frame['img'] = cv2.warpAffine(frame['img'], matrix, (width, height), flags=cv2.INTER_LINEAR)
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
        amounts = rng.uniform(-1, 1, 4) * self.strengths + (1, 1, 1, 0)
        for step in rng.permutation(4):
            if self.strengths[step]:
                image = _COLOUR_STEPS[step](image, float(amounts[step]))
        return image

    def _matrix(self, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        """(2, 3): where a pixel x, y, 1 goes."""
        angle = int(rng.integers(-self.rotation, max(self.rotation, 1)))
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.).astype(np.float64)
        for largest in self.translation:
            matrix[:, 2] += rng.uniform(-largest, largest, 2) * (width, height)
        return matrix
