"""Shapes, textures and backgrounds of the family 'geometric', the first and the default one of the toy videos.

Object coordinates u, v have their origin at the centre of the object; every shape lies within the unit circle.
"""
from collections.abc import Callable

import cv2
import numpy as np

Shape = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _regular(u: np.ndarray, v: np.ndarray, corners: int) -> np.ndarray:
    """Return whether points lie in a regular polygon with one corner at (0, -1)."""
    sector = 2 * np.pi / corners
    angle = np.mod(np.arctan2(u, -v) + sector / 2, sector) - sector / 2
    return np.hypot(u, v) * np.cos(angle - np.sign(angle) * sector / 2) <= np.cos(sector / 2)


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    angle = np.abs(np.mod(np.arctan2(u, -v) + np.pi / 5, 2 * np.pi / 5) - np.pi / 5)
    # the edge from the outer corner (radius 1, angle 0) to the inner one (radius .4, angle 36°)
    x, y = np.hypot(u, v) * np.cos(angle), np.hypot(u, v) * np.sin(angle)
    inner_x, inner_y = .4 * np.cos(np.pi / 5), .4 * np.sin(np.pi / 5)
    return (x - 1) * inner_y - y * (inner_x - 1) <= 0


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    a, b = np.abs(u), np.abs(v)
    return (np.maximum(a, b) <= .9) & (np.minimum(a, b) <= .3)


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    x, y = 1.25 * u, -1.25 * v + .1
    return (x ** 2 + y ** 2 - .8) ** 3 <= x ** 2 * y ** 3


SHAPES: dict[str, Shape] = {
    'disc': lambda u, v: u ** 2 + v ** 2 <= 1,
    'square': lambda u, v: np.maximum(np.abs(u), np.abs(v)) <= .71,
    'triangle': lambda u, v: _regular(u, v, 3),
    'star': _star,
    'ring': lambda u, v: (u ** 2 + v ** 2 <= 1) & (u ** 2 + v ** 2 >= .3),
    'cross': _cross,
    'bar': lambda u, v: (np.abs(u) <= .97) & (np.abs(v) <= .24),
    'crescent': lambda u, v: (u ** 2 + v ** 2 <= 1) & ((u - .45) ** 2 + v ** 2 >= .55),
    'heart': _heart,
    'ellipse': lambda u, v: u ** 2 + (2 * v) ** 2 <= 1,
}
TEXTURES = ('solid', 'stripes', 'checker', 'noise')


def paint(texture: str, u: np.ndarray, v: np.ndarray, colors: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Compute the colours of the pixels of an object; the texture moves and rotates with the object.

    Args:
        texture: one of :data:`TEXTURES`.
        u, v: (n,) object coordinates.
        colors: (2, 3) BGR, 0–255: background and pattern of the texture.
        noise: (k, k) in [0, 1], random values of this object.

    Returns:
        (n, 3) float, 0–255.
    """
    if texture == 'solid':
        return np.broadcast_to(colors[0], (len(u), 3))
    if texture == 'stripes':
        mix = np.floor(u * 4) % 2
    elif texture == 'checker':
        mix = (np.floor(u * 3) + np.floor(v * 3)) % 2
    else:
        cells = len(noise)
        row, column = (np.clip(((w + 1) / 2 * cells).astype(int), 0, cells - 1) for w in (v, u))
        mix = noise[row, column]
    return colors[0] + mix[:, None] * (colors[1] - colors[0])


def background(size: tuple[int, int], easy: bool, rng: np.random.Generator) -> np.ndarray:
    """Return a background (H, W, 3) float32, 0–255: smooth blobs and noise.

    Args:
        size: width and height in pixels.
        easy: weak blobs and noise.
        rng: random generator of the video.
    """
    width, height = size
    base, contrast = rng.uniform(90, 170, 3), 10 if easy else 50
    blobs = np.asarray(base + rng.uniform(-contrast, contrast, (4, 6, 3)), np.float32)
    image = cv2.resize(blobs, (width, height), interpolation=cv2.INTER_LINEAR)
    return image + rng.normal(0, 2 if easy else 12, (height, width, 3)).astype(np.float32)
