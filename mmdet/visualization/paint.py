"""Paint one object on a frame: mask, box, uncertainty, trail. Each function changes the given image in place.

Called by :mod:`track_visualizer`. Only the pixels around the mark are touched, so that the cost follows the objects,
not the frame.
"""
from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

Color = tuple[int, int, int]
RIM: Color = (32, 32, 32)


@dataclass(frozen=True)
class Style:
    """Sizes of lines and text in pixels, which grow with the picture; text grows less, to be readable in small ones."""

    line: int
    contour: int
    font: int

    @classmethod
    def for_size(cls, height: int, width: int) -> Style:
        """Return the style for a picture; 1280×720 has lines of 2, contours of 3 and text of 18 pixels."""
        relative = (height * width / (1280 * 720))**0.5
        return cls(
            line=max(1, round(2 * relative)),
            contour=max(1, round(3 * relative)),
            font=max(8, round(8 + 10.5 * relative)))


def paint_mask(
    image: np.ndarray, mask: np.ndarray, x: int, y: int, color: Color, alpha: float, contour: int, scale: float = 1.0
) -> None:
    """Tint the pixels of a mask and draw its contour along the inside of its edge.

    Args:
        image: (H, W, 3) uint8 BGR.
        mask: (h, w) uint8 in {0, 1}.
        x, y: upper left corner of the mask, in its own pixels.
        color: BGR.
        alpha: opacity of the tint, in [0, 1].
        contour: thickness of the contour in pixels, 0 for none.
        scale: image pixels per mask pixel.
    """
    if scale != 1:
        left, top = round(x * scale), round(y * scale)
        size = max(round((x + mask.shape[1]) * scale) - left, 1), max(round((y + mask.shape[0]) * scale) - top, 1)
        mask = (cv2.resize(mask * 255, size, interpolation=cv2.INTER_AREA) > 127).astype(np.uint8)
        x, y = left, top
    region = image[y:y + mask.shape[0], x:x + mask.shape[1]]
    mask = mask[:region.shape[0], :region.shape[1]]
    if not mask.size:
        return
    solid = solid_block(mask.shape[0], mask.shape[1], color)
    tint = cv2.addWeighted(region, 1 - alpha, solid, alpha, 0)
    if contour:
        cv2.copyTo(solid, _inner_edge(mask, x, y, image.shape, contour), tint)
    cv2.copyTo(tint, mask, region)


def _inner_edge(mask: np.ndarray, x: int, y: int, frame: tuple[int, ...], thickness: int) -> np.ndarray:
    """Return the pixels of a mask within ``thickness`` of its edge; there is no edge at the border of the frame."""
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    if y == 0:
        padded[0] = padded[1]
    if y + mask.shape[0] == frame[0]:
        padded[-1] = padded[-2]
    if x == 0:
        padded[:, 0] = padded[:, 1]
    if x + mask.shape[1] == frame[1]:
        padded[:, -1] = padded[:, -2]
    return mask - cv2.erode(padded, _disc(thickness))[1:-1, 1:-1]


@cache
def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def solid_block(height: int, width: int, color: Color) -> np.ndarray:
    """Return a (height, width, 3) uint8 array of one colour; OpenCV fills it many times faster than NumPy."""
    block = np.empty((height, width, 3), np.uint8)
    return cv2.rectangle(block, (0, 0), (width, height), color, -1)


def paint_box(image: np.ndarray, box: np.ndarray, color: Color, line: int) -> None:
    """Draw the outline of a box (x1, y1, x2, y2 in pixels of the image), clipped to the image.

    Thick lines have a dark rim, which is visible on any background.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (min(max(side, 0), end - 1) for side, end in zip(_pixels(box).tolist(), (width, height) * 2))
    if line > 1:
        cv2.rectangle(image, (x1, y1), (x2, y2), RIM, line + 2)
    cv2.rectangle(image, (x1, y1), (x2, y2), color, line)


def paint_uncertainty(image: np.ndarray, box: np.ndarray, uncertainty: np.ndarray, color: Color, line: int) -> None:
    """Draw the uncertainty of a box as ellipses at its upper left and its lower right corner.

    Args:
        image: (H, W, 3) uint8 BGR.
        box: x1, y1, x2, y2 in pixels of the image.
        uncertainty: (4,) in [0, 1] of x1, y1, x2, y2; the radii are these shares of the box's width and height.
        color: BGR.
        line: thickness of the outlines.
    """
    height, width = image.shape[:2]
    sides = np.tile(np.maximum(box[2:] - box[:2], 0), 2)
    radii = np.rint(np.clip(uncertainty * sides, 1, 2 * max(height, width))).astype(int)
    for center, radius in zip(_pixels(box).reshape(2, 2).tolist(), radii.reshape(2, 2).tolist()):
        if line > 1:
            cv2.ellipse(image, center, radius, 0, 0, 360, RIM, line + 2, cv2.LINE_AA)
        cv2.ellipse(image, center, radius, 0, 0, 360, color, line, cv2.LINE_AA)


def paint_trail(image: np.ndarray, points: np.ndarray, color: Color, line: int) -> None:
    """Draw a line through points (k, 2) x, y, the oldest first; it becomes thicker over time and ends in a dot."""
    path = _pixels(points).tolist()
    for ink, rim in ((RIM, 2 if line > 1 else 0), (color, 0)):
        for step, (start, end) in enumerate(itertools.pairwise(path), start=1):
            cv2.line(image, start, end, ink, max(1, round(1.5 * line * step / len(path))) + rim, cv2.LINE_AA)
        cv2.circle(image, path[-1], 2 * line + rim // 2, ink, -1, cv2.LINE_AA)


def _pixels(coordinates: np.ndarray) -> np.ndarray:
    """Round coordinates to integers and clip them to the range of OpenCV's integers."""
    return np.rint(np.minimum(np.maximum(coordinates, -1e6), 1e6)).astype(int)
