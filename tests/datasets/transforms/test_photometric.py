"""Colours of a clip change alike in all frames; closed forms of the single operations."""
import colorsys

import numpy as np
import pytest

from mmdet.datasets.transforms import PhotometricDistortClip
from mmdet.errors import UserError

NONE = dict(brightness=0, contrast=0, saturation=0, hue=0, prob=1)


def clip_of_colour(*colours, seed=0):
    """Return a clip; frame t has the BGR colour t everywhere."""
    return {'rng': np.random.default_rng(seed),
            'frames': [{'img': np.full((4, 6, 3), colour, np.uint8)} for colour in colours]}


def colours_of(results):
    assert all((frame['img'] == frame['img'][0, 0]).all() for frame in results['frames'])
    return [frame['img'][0, 0].tolist() for frame in results['frames']]


def test_zero_strengths_and_zero_probability_change_nothing():
    for options in (NONE, dict(prob=0)):
        assert colours_of(PhotometricDistortClip(**options)(clip_of_colour((10, 20, 30)))) == [[10, 20, 30]]


def test_one_draw_for_all_frames_and_another_for_another_seed():
    transform, seen = PhotometricDistortClip(channel_prob=.5), set()
    for seed in range(20):
        first, second, third = colours_of(transform(clip_of_colour(*[(40, 90, 140)] * 3, seed=seed)))
        assert first == second == third
        assert colours_of(transform(clip_of_colour((40, 90, 140), seed=seed))) == [first]
        seen.add(tuple(first))
    assert len(seen) > 12


def test_brightness_is_a_factor_within_the_strength():
    factors = [colours_of(PhotometricDistortClip(**NONE | dict(brightness=.5))(clip_of_colour((100, 50, 20), seed=seed))
                          )[0] for seed in range(60)]
    for blue, green, red in factors:
        assert 50 <= blue <= 150 and abs(green - blue / 2) <= 1 and abs(red - blue / 5) <= 1
    assert min(factors)[0] < 60 and max(factors)[0] > 140


def test_contrast_and_saturation_keep_a_grey_image():
    transform = PhotometricDistortClip(**NONE | dict(contrast=1, saturation=1))
    for seed in range(10):
        (blue, green, red), = colours_of(transform(clip_of_colour((80, 80, 80), seed=seed)))
        assert max(abs(channel - 80) for channel in (blue, green, red)) <= 1


def test_hue_shifts_by_up_to_its_strength_in_turns():
    transform, hues = PhotometricDistortClip(**NONE | dict(hue=.1)), []
    for seed in range(60):
        (blue, green, red), = colours_of(transform(clip_of_colour((120, 120, 240), seed=seed)))  # red: hue 0
        hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
        hues.append((hue + .5) % 1 - .5)
        assert saturation == pytest.approx(.5, abs=.02) and value == pytest.approx(240 / 255, abs=.01)
    assert -.105 < min(hues) < -.08 and .08 < max(hues) < .105


def test_channels_are_permuted_alike_in_all_frames():
    transform, seen = PhotometricDistortClip(**NONE | dict(channel_prob=1)), set()
    for seed in range(40):
        first, second = colours_of(transform(clip_of_colour((1, 2, 3), (4, 5, 6), seed=seed)))
        assert sorted(first) == [1, 2, 3] and second == [channel + 3 for channel in first]
        seen.add(tuple(first))
    assert len(seen) == 6


def test_jitter_differs_between_frames_within_the_strengths():
    transform = PhotometricDistortClip(**NONE | dict(brightness=.2, frame_jitter=.25))
    for seed in range(20):
        blues = [colour[0] for colour in colours_of(transform(clip_of_colour(*[(100, 100, 100)] * 6, seed=seed)))]
        assert min(blues) >= 80 and max(blues) <= 120 and max(blues) - min(blues) <= 10
        assert len(set(blues)) > 1


@pytest.mark.parametrize('wrong', [dict(brightness=2), dict(hue=.6), dict(prob=-1), dict(channel_prob='x'),
                                   dict(frame_jitter=True), dict(saturation=float('nan'))])
def test_wrong_arguments(wrong):
    with pytest.raises(UserError, match=f'PhotometricDistortClip.{next(iter(wrong))} must be a number from 0 to '):
        PhotometricDistortClip(**wrong)
