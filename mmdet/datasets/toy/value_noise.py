"""Smooth random fields on a periodic lattice: textures and backgrounds of the organic toy videos."""
from collections.abc import Sequence

import numpy as np


def value_noise(values: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Interpolate random values between the points of a periodic lattice, with a continuous first derivative.

    Args:
        values: (rows, columns) or (rows, columns, channels), value of each lattice point.
        x, y: columns and rows in units of the lattice spacing; of any shapes that broadcast, any sign.

    Returns:
        The broadcast shape of x and y, followed by the channels; within the range of ``values``.
    """
    rows, columns = values.shape[:2]
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    across, down = (t * t * (3 - 2 * t) for t in (x - left, y - top))
    if values.ndim == 3:
        across, down = across[..., None], down[..., None]
    left_columns, right_columns = left % columns, (left + 1) % columns
    upper, lower = ((1 - across) * values[row % rows, left_columns] + across * values[row % rows, right_columns]
                    for row in (top, top + 1))
    return (1 - down) * upper + down * lower


def fractal_noise(octaves: Sequence[np.ndarray], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compute a weighted mean of value noises: octave k has twice the frequency and half the weight of octave k - 1.

    Args:
        octaves: lattice values of each octave, see :func:`value_noise`.
        x, y: columns and rows in units of the lattice spacing of the first octave.
    """
    total = sum(value_noise(values, x * 2 ** k, y * 2 ** k) / 2 ** k for k, values in enumerate(octaves))
    return total / (2 - 2. ** (1 - len(octaves)))
