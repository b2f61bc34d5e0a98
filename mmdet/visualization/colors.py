"""A fixed colour for every track id; the colours can be distinguished with colour vision deficiencies, too.

Called by :mod:`track_visualizer` and by tools that draw their own pictures. The first colours are Okabe and Ito's
("Color Universal Design", 2008); the others are picked one by one, each as far as possible from all before it, as seen
with normal vision and with protanopia, deuteranopia and tritanopia (matrices of Machado, Oliveira and Fernandes, "A
Physiologically-based Model for Simulation of Color Vision Deficiency", 2009).
"""
from __future__ import annotations

from functools import cache

import cv2
import numpy as np

# Okabe and Ito without black, as RGB; neighbours in this order differ in lightness as well as in hue
OKABE_ITO = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0), (0, 114, 178))
NUM_COLORS = 64
GOLDEN_ANGLE = 180 * (3 - 5**.5)  # degrees

# linear RGB as seen by: normal vision, protanopia, deuteranopia, tritanopia
VISIONS = np.array([
    [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
])


def as_seen(rgb: np.ndarray) -> np.ndarray:
    """Convert colours to CIELAB as seen with normal vision and with three colour vision deficiencies.

    Args:
        rgb: (n, 3) sRGB, 0 to 255.

    Returns:
        (n, 4, 3) L*, a*, b* with normal vision, protanopia, deuteranopia and tritanopia. Distances are CIE76.
    """
    srgb = np.asarray(rgb, np.float64) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055)**2.4)
    seen = np.einsum('vij,nj->nvi', VISIONS, linear).clip(0, 1).astype(np.float32)
    return cv2.cvtColor(seen, cv2.COLOR_LRGB2Lab)


def _candidates(count: int = 720) -> np.ndarray:
    """Return (count, 3) sRGB colours: hues advance by the golden angle, lightness and chroma by irrational steps."""
    step = np.arange(count)
    lightness = 40 + 50 * (step * 2**.5 % 1)
    chroma = 45 + 35 * (step * 3**.5 % 1)
    hue = np.deg2rad(step * GOLDEN_ANGLE)
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1).astype(np.float32)
    return np.rint(cv2.cvtColor(lab[None], cv2.COLOR_Lab2RGB)[0].clip(0, 1) * 255)


@cache
def palette() -> np.ndarray:
    """Return the colours, (64, 3) uint8 BGR, read-only; they are always the same."""
    candidates = _candidates()
    seen = as_seen(candidates)
    chosen = [np.array(color, np.float64) for color in OKABE_ITO]
    # distance of each candidate to the chosen ones, with the vision that separates them least
    nearest = np.full(len(candidates), np.inf)
    for index in range(NUM_COLORS):
        if index >= len(chosen):
            chosen.append(candidates[nearest.argmax()])
        distance = np.linalg.norm(seen - as_seen(chosen[index][None]), axis=-1).min(axis=1)
        nearest = np.minimum(nearest, distance)
    colors = np.array(chosen)[:, ::-1].astype(np.uint8)
    colors.flags.writeable = False
    return colors


def color_of(track_id: int) -> tuple[int, int, int]:
    """Return the colour, BGR from 0 to 255, of any integer id. Ids that are equal modulo 64 share a colour."""
    return tuple(palette()[int(track_id) % NUM_COLORS].tolist())


@cache
def text_color_on(bgr: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return black or white, whichever has the higher contrast to a colour (WCAG 2 relative luminance)."""
    srgb = np.array(bgr[::-1]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055)**2.4)
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)
