"""Random changes of brightness, contrast, saturation and hue of a clip; used in training pipelines after loading."""
from __future__ import annotations

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform

from mmdet.arguments import checked_number
from mmdet.registry import TRANSFORMS

# in the order of the amounts of adjust_colours; on uint8 images they are faster than torchvision's
_STEPS = (mmcv.adjust_brightness, mmcv.adjust_contrast, mmcv.adjust_color, mmcv.adjust_hue)
_NEUTRAL = (1., 1., 1., 0.)


def adjust_colours(image: np.ndarray, changes: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Change the colours of an image (H, W, 3) uint8 BGR.

    Args:
        image: not modified.
        changes: (4,): the factors of brightness, contrast and saturation minus 1, and the shift of the hue in full
            turns; an operation is skipped where it is 0.
        order: (4,) permutation of 0–3, the order of the operations.
    """
    for step in order:
        if changes[step]:
            image = _STEPS[step](image, float(changes[step] + _NEUTRAL[step]))
    return image


@TRANSFORMS.register_module()
class PhotometricDistortClip(BaseTransform):
    """Change the colours of all frames of a clip in the same way; boxes, masks and ids stay as they are.

    The operations of torchvision's ``RandomPhotometricDistort``, whose strengths are the defaults: brightness, contrast
    and saturation are multiplied by a factor drawn uniformly from 1 ± their strength, and the hue is shifted by up to
    ± its strength in full turns. Which operations are applied, their order and their amounts are drawn once per clip.

    Args:
        brightness, contrast, saturation: strengths, 0–1.
        hue: strength, 0–0.5.
        prob: probability of each of the four operations.
        channel_prob: probability of a random permutation of the colour channels.
        frame_jitter: largest additional change in each single frame, as a share of the strengths, as by the automatic
            exposure of a camera. The total change stays within the strengths.
    """

    def __init__(self, brightness: float = .125, contrast: float = .5, saturation: float = .5, hue: float = .05,
                 prob: float = .5, channel_prob: float = 0., frame_jitter: float = 0.) -> None:
        name = type(self).__name__
        self.strengths = np.array([checked_number(f'{name}.brightness', brightness, 0, 1),
                                   checked_number(f'{name}.contrast', contrast, 0, 1),
                                   checked_number(f'{name}.saturation', saturation, 0, 1),
                                   checked_number(f'{name}.hue', hue, 0, .5)])
        self.prob = checked_number(f'{name}.prob', prob, 0, 1)
        self.channel_prob = checked_number(f'{name}.channel_prob', channel_prob, 0, 1)
        self.frame_jitter = checked_number(f'{name}.frame_jitter', frame_jitter, 0, 1)

    def transform(self, results: dict) -> dict:
        rng = results['rng']
        strengths = self.strengths * (rng.random(4) < self.prob)
        order, common = rng.permutation(4), rng.uniform(-1, 1, 4)
        channels = rng.permutation(3) if rng.random() < self.channel_prob else None
        for frame in results['frames']:
            share = common + self.frame_jitter * rng.uniform(-1, 1, 4) if self.frame_jitter else common
            frame['img'] = adjust_colours(frame['img'], strengths * np.clip(share, -1, 1), order)
            if channels is not None:
                frame['img'] = frame['img'][..., channels]
        return results
