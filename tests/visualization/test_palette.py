"""Colours of tracks: constant, distinguishable, with legible text on them."""
import numpy as np
import pytest

from mmdet.visualization.colors import OKABE_ITO, as_seen, color_of, palette, text_color_on


def test_begins_with_okabe_ito():
    assert [color_of(i)[::-1] for i in range(len(OKABE_ITO))] == list(OKABE_ITO)


@pytest.mark.parametrize('track_id', [0, 63, 64, 10**12, -1, np.int64(5)])
def test_any_id_has_a_constant_color(track_id):
    color = color_of(track_id)
    assert color == color_of(track_id) and len(color) == 3
    assert all(type(channel) is int and 0 <= channel <= 255 for channel in color)


@pytest.mark.parametrize(('count', 'distance'), [(16, 14), (32, 9), (64, 5)])
def test_colors_are_distinguishable_with_any_color_vision(count, distance):
    seen = as_seen(palette()[:count, ::-1])  # (count, 4 kinds of colour vision, Lab)
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1).min(axis=-1)
    assert apart[np.triu_indices(count, 1)].min() > distance


def test_as_seen_known_values():
    white, red = as_seen(np.array([[255, 255, 255], [255, 0, 0]]))
    np.testing.assert_allclose(white, np.tile([100, 0, 0], (4, 1)), atol=0.5)  # white looks white to everybody
    np.testing.assert_allclose(red[0], [53.2, 80.1, 67.2], atol=0.3)  # CIE: sRGB red
    assert red[1, 0] < red[0, 0] - 10  # and darker to protanopes


def test_text_contrast():
    assert text_color_on((0, 0, 0)) == (255, 255, 255)
    assert text_color_on((255, 255, 255)) == (0, 0, 0)
