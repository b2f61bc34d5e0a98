"""Shapes, textures and backgrounds of the family 'organic': none of them occurs in :mod:`.toy_shapes`.

They show whether a training recipe that was chosen on one family also serves for the other one.

Object coordinates u, v have their origin at the centre of the object and v points down; every shape lies within the
unit circle.
"""
import numpy as np

from mmdet.datasets.toy.toy_shapes import Shape
from mmdet.datasets.toy.value_noise import fractal_noise


def _lobes(u: np.ndarray, v: np.ndarray, count: int, depth: float) -> np.ndarray:
    """Return whether points lie in a figure whose radius oscillates ``count`` times between 1 - 2 * depth and 1."""
    return np.hypot(u, v) <= 1 - depth + depth * np.cos(count * np.arctan2(u, -v))


def _drop(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    # a disc and its two tangents that meet at (0, -1)
    radius, distance = .6, 1.35
    sine = radius / distance
    below_tip = v + 1
    cone = (below_tip >= 0) & (below_tip <= distance * (1 - sine ** 2))
    return (u ** 2 + (below_tip - distance) ** 2 <= radius ** 2) | (
        cone & (np.abs(u) <= below_tip * sine / np.sqrt(1 - sine ** 2)))


def _spiral(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    # an arm of width .25, wound twice around the centre
    radius = np.hypot(u, v)
    return (radius <= 1) & (np.mod(radius - .5 * np.arctan2(v, u) / (2 * np.pi), .5) < .25)


def _pretzel(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (u ** 2 + (1.4 * v) ** 2 <= 1) & ((np.abs(u) - .45) ** 2 + v ** 2 >= .28 ** 2)


def _fish(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    body = ((u + .25) / .7) ** 2 + (v / .42) ** 2 <= 1
    return body | ((u <= .9) & (np.abs(v) <= .7 * (u - .3)))


def _mushroom(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    cap = (v <= 0) & (u ** 2 + v ** 2 <= .95 ** 2)
    return cap | ((v >= 0) & (v <= .85) & (np.abs(u) <= .28))


def _hook(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    radius = np.hypot(u, v + .38)
    arc = (v <= -.38) & (radius >= .25) & (radius <= .6)
    return arc | ((v >= -.38) & (v <= .78) & (u >= .25) & (u <= .6))


SHAPES: dict[str, Shape] = {
    'drop': _drop,
    'clover': lambda u, v: _lobes(u, v, 3, .35),
    'spiral': _spiral,
    'pretzel': _pretzel,
    'fish': _fish,
    'mushroom': _mushroom,
    'flower': lambda u, v: _lobes(u, v, 8, .2) & (u ** 2 + v ** 2 >= .09),
    'hook': _hook,
    'wave': lambda u, v: (np.abs(u) <= .8) & (np.abs(v - .5 * np.sin(1.5 * np.pi * u)) <= .2),
    'peanut': lambda u, v: _lobes(u, v, 2, .35),
}
TEXTURES = ('gradient', 'dots', 'marble', 'scales', 'rings')


def _mix(texture: str, u: np.ndarray, v: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Compute the share of the pattern's colour, 0–1."""
    if texture == 'gradient':
        heading = 2 * np.pi * noise[0, 0]
        return (1 + u * np.cos(heading) + v * np.sin(heading)) / 2
    if texture == 'dots':
        return (np.hypot(*(np.mod(3 * w + offset, 1) - .5 for w, offset in zip((u, v), noise[0]))) < .32).astype(float)
    if texture == 'marble':
        field = fractal_noise([noise, noise.T, noise[::-1], noise[:, ::-1]], 1.5 * u, 1.5 * v)
        return .5 + .5 * np.sin(5 * u + 14 * field)
    if texture == 'scales':
        # rows of half discs; every second row is displaced by half a disc
        row = np.floor(8 * v)
        return np.hypot(2 * np.mod(4 * u + row / 2, 1) - 1, 8 * v - row)
    x, y = noise[0, :2] - .5
    return .5 + .5 * np.cos(6 * np.pi * np.hypot(u - x, v - y))


def paint(texture: str, u: np.ndarray, v: np.ndarray, colors: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Compute the colours of the pixels of an object, as :func:`.toy_shapes.paint` does.

    Args:
        texture: one of :data:`TEXTURES`.
        u, v: (n,) object coordinates.
        colors: (2, 3) BGR, 0–255: background and pattern of the texture.
        noise: (k, k) in [0, 1], random values of this object.

    Returns:
        (n, 3) float, 0–255.
    """
    mix = np.clip(_mix(texture, u, v, noise), 0, 1)
    return colors[0] + mix[:, None] * (colors[1] - colors[0])


def background(size: tuple[int, int], easy: bool, rng: np.random.Generator) -> np.ndarray:
    """Return a cloudy background (H, W, 3) float32: five octaves of noise.

    It is periodic: what leaves the frame on one side as the background drifts comes back on the other one.

    Args:
        size: width and height in pixels.
        easy: weak contrast.
        rng: random generator of the video.
    """
    width, height = size
    base, contrast = rng.uniform(90, 170, 3), 10 if easy else 90
    octaves = [rng.uniform(-1, 1, (3 * 2 ** k, 5 * 2 ** k, 3)) for k in range(5)]
    field = fractal_noise(octaves, np.arange(width) * 5 / width, np.arange(height)[:, None] * 3 / height)
    return np.asarray(base + contrast * field, np.float32)
