"""Masks of the shapes that annotation tools draw, and objects in several pieces; called by the converters.

A polygon is a flat list x, y, x, y, ... in pixels; pycocotools clips it to the image.
"""
from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from pycocotools import mask as coco_mask

from mmdet.errors import UserError
from mmdet.structures.masks import encode_masks, parse_segmentations

ELLIPSE_POINTS = 72
Key = TypeVar('Key', bound=Hashable)


def rectangle(x1: float, y1: float, x2: float, y2: float, degrees: float = 0.) -> list[float]:
    """Return the polygon of a rectangle with these opposite corners, rotated clockwise about its centre."""
    left, right, top, bottom = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)
    return _rotated(corners, degrees)


def ellipse(x: float, y: float, x_radius: float, y_radius: float, degrees: float = 0.) -> list[float]:
    """Return a polygon that approximates an ellipse around (x, y), rotated clockwise about its centre."""
    angles = np.arange(ELLIPSE_POINTS) * 2 * math.pi / ELLIPSE_POINTS
    return _rotated(np.stack([x + x_radius * np.cos(angles), y + y_radius * np.sin(angles)], axis=1), degrees)


def _rotated(points: np.ndarray, degrees: float) -> list[float]:
    if degrees:
        turn = math.radians(degrees)
        centre = points.mean(0)
        matrix = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        points = (points - centre) @ matrix.T + centre
    return points.reshape(-1).tolist()


def polygon_mask(polygon: Sequence[float], height: int, width: int, where: str) -> dict:
    """Return the compressed RLE of a polygon.

    Raises:
        UserError: it has fewer than three points, or coordinates that are not finite; the message begins with
            ``where``.
    """
    (rle,), _ = parse_segmentations([[list(polygon)]], height, width, where)
    assert rle is not None
    return rle


def box_mask(box: Any, height: int, width: int, where: str) -> dict:
    """Return the compressed RLE of the rectangle of an annotation that has no mask.

    Args:
        box: its ``bbox``, which should be a list x, y, width, height in pixels.
        height, width: size of the image.
        where: begin of the message.

    Raises:
        UserError: the box is not a list of four finite numbers.
    """
    if not isinstance(box, list) or len(box) != 4 or not all(type(value) in (int, float) for value in box):
        raise UserError(f'{where} has no mask, and its bbox {str(box)[:60]} is not x, y, width, height; give it one of '
                        'the two')
    x, y, w, h = box
    return polygon_mask(rectangle(x, y, x + w, y + h), height, width, f'{where}, bbox')


def crop_mask(crop: np.ndarray, left: int, top: int, height: int, width: int, where: str) -> dict:
    """Return the compressed RLE of a mask that is given on a rectangle of the image.

    Args:
        crop: (h, w) bool.
        left, top: position of its first pixel.
        height, width: size of the image.
        where: begin of the message.

    Raises:
        UserError: the rectangle is not inside the image.
    """
    below, right = top + crop.shape[0], left + crop.shape[1]
    if min(left, top) < 0 or below > height or right > width:
        raise UserError(f'{where}: a mask at x {left} to {right}, y {top} to {below} is not inside the '
                        f'{width}x{height} image; does the annotation belong to other images?')
    image = np.zeros((1, height, width), np.uint8)
    image[0, top:below, left:right] = crop
    return encode_masks(image)[0]


class ObjectMasks(Generic[Key]):
    """Collect the masks of the objects of a video. Several masks of an object in a frame are its pieces.

    Args:
        length: number of frames of the video.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self._rles: dict[Key, list[dict | None]] = {}

    def add(self, key: Key, frame: int, rle: dict) -> None:
        """Add a mask, or a piece of one, to the object ``key``; a frame is counted from 0."""
        shown = self._rles.setdefault(key, [None] * self.length)
        former = shown[frame]
        shown[frame] = rle if former is None else coco_mask.merge([former, rle])

    def tracks(self) -> dict[Key, list[dict | None]]:
        """Return the mask of each object in each frame, in the order in which the objects were added."""
        return self._rles
