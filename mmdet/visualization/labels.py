"""Text labels of the objects in a picture, painted as plates: their text, placement and drawing.

Called by :mod:`track_visualizer`. Plates stay inside the frame and never overlap each other; if there is not enough
room, the text is shortened, and finally the plate is left out.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .colors import text_color_on
from .paint import solid_block

NAME_LENGTH = 24  # characters of a class name that are shown
PLATE_ALPHA = 0.85
PLATES_SHARE = 0.15  # largest share of the picture that plates should cover


def label_texts(
    track_id: int | None, name: str | None, score: float | None, uncertainty: float | None = None, percent: bool = False
) -> list[str]:
    """List the texts that a plate may show, from the longest to the shortest.

    Args:
        track_id, name, score: values of the object, None if unknown.
        uncertainty: mean uncertainty of its box, None if unknown.
        percent: show the score in percent, as ``87%``.

    Returns:
        For example ``['#3 seal 0.87 u0.12', '#3 seal 0.87', '#3 seal', '#3']``; empty if nothing is known.
    """
    parts = [] if track_id is None else [f'#{track_id}']
    if name:
        # names come from annotation files: remove line breaks, unprintable characters and lone surrogates
        name = ''.join(c if c.isprintable() else ' ' for c in name.encode('utf-8', 'replace').decode())
        parts.append(name if len(name) <= NAME_LENGTH else name[:NAME_LENGTH - 1] + '…')
    if score is not None:
        parts.append(f'{score:.0%}' if percent else f'{score:.2f}')
    if uncertainty is not None:
        parts.append(f'u{uncertainty:.2f}')
    return [' '.join(parts[:n]) for n in range(len(parts), 0, -1)]


def place_plates(
    boxes: Sequence[Sequence[float]], sizes: Sequence[Sequence[tuple[int, int]]], frame: tuple[int, int]
) -> list[tuple[int, int, int] | None]:
    """Place one plate per object, in the order of the objects.

    Args:
        boxes: n boxes x1, y1, x2, y2 in pixels; finite.
        sizes: (width, height) of the texts of each object, the preferred text first.
        frame: (height, width) of the picture.

    Returns:
        (index of the text, x, y) of the plate of each object, in integer pixels, or None if no text fits.
    """
    height, width = frame
    # with many objects all texts are shortened, so that the plates do not cover the picture
    shortest = max((len(texts) for texts in sizes), default=1) - 1
    skipped = 0
    while skipped < shortest and sum(
            w * h for texts in sizes for w, h in texts[skipped:skipped + 1]) > PLATES_SHARE * height * width:
        skipped += 1
    taken: list[tuple[int, int, int, int]] = []
    places: list[tuple[int, int, int] | None] = []
    for box, texts in zip(boxes, sizes):
        found = None
        for choice, (w, h) in enumerate(texts):
            # the last text is the shortest and may be as wide as the frame; longer ones must leave room for others
            last = choice == len(texts) - 1
            if h > height or w > width * (1 if last else 0.4) or (choice < skipped and not last):
                continue
            spot = next((spot for spot in _spots(box, w, h, height, width) if _is_free(*spot, w, h, taken)), None)
            if spot is not None:
                x, y = spot
                taken.append((x, y, x + w, y + h))
                found = choice, x, y
                break
        places.append(found)
    return places


def _spots(box: Sequence[float], w: int, h: int, height: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield candidate upper left corners for a plate beside, inside, and further from a box, the best first."""
    x1, y1, x2, y2 = box
    spots = (
        (x1, y1 - h), (x1, y2), (x2 - w, y1 - h), (x2 - w, y2), (x1, y1), (x1, y2 - h), (x2, y1), (x1 - w, y1),
        (x1, y1 - 2 * h), (x1, y2 + h), (x2, y1 + h), (x1 - w, y1 + h), (x1, y1 + h), (x1, y1 + 2 * h),
    )
    for x, y in spots:
        yield min(max(round(x), 0), width - w), min(max(round(y), 0), height - h)


def _is_free(x: int, y: int, w: int, h: int, taken: Iterable[tuple[int, int, int, int]]) -> bool:
    """Return whether a plate overlaps none of the plates placed already."""
    return not any(x < x2 and x + w > x1 and y < y2 and y + h > y1 for x1, y1, x2, y2 in taken)


def plate_size(text: str, font_size: int) -> tuple[int, int]:
    """Return the (width, height) of a plate in pixels."""
    height, width = _text_mask(text, font_size).shape
    return width, height


def paint_plate(image: np.ndarray, text: str, x: int, y: int, font_size: int, color: tuple[int, int, int]) -> None:
    """Paint a plate in place.

    Args:
        image: (H, W, 3) uint8 BGR that contains the whole plate.
        text: text of the plate.
        x, y: upper left corner.
        font_size: pixels per em.
        color: colour of the plate, BGR; the text is black or white.
    """
    ink = _text_mask(text, font_size)  # (h, w)
    height, width = ink.shape
    region = image[y:y + height, x:x + width]
    plate = cv2.blendLinear(
        solid_block(height, width, color), solid_block(height, width, text_color_on(color)), 1 - ink, ink)
    cover = np.maximum(_rounded(height, width, max(font_size / 5, 1.5)) * np.float32(PLATE_ALPHA), ink)
    region[:] = cv2.blendLinear(region, plate, 1 - cover, cover)


@lru_cache(maxsize=1024)
def _text_mask(text: str, font_size: int) -> np.ndarray:
    """Render a text as coverage (h, w) float32 in [0, 1], with padding."""
    words = [_word_mask(word, font_size) for word in text.split(' ')]
    space = np.zeros((words[0].shape[0], max(2, font_size // 3)), np.float32)
    return np.hstack([space, *(part for word in words for part in (word, space))])


@lru_cache(maxsize=4096)
def _word_mask(word: str, font_size: int) -> np.ndarray:
    """Render a word as coverage; cached, since only the numbers on a plate change from frame to frame."""
    font = _font(font_size)
    ascent, descent = font.getmetrics()
    canvas = Image.new('L', (int(np.ceil(font.getlength(word))), ascent + descent))
    ImageDraw.Draw(canvas).text((0, ascent), word, fill=255, font=font, anchor='ls')
    return np.asarray(canvas, np.float32) / 255


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib  # imported here: it takes long, and only labels need its font
    path = Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=1024)
def _rounded(height: int, width: int, radius: float) -> np.ndarray:
    """Compute the (height, width) float32 coverage of a rectangle with rounded corners."""
    dy = np.abs(np.arange(height) + 0.5 - height / 2) - (height / 2 - radius)
    dx = np.abs(np.arange(width) + 0.5 - width / 2) - (width / 2 - radius)
    distance = np.hypot(dy.clip(0)[:, None], dx.clip(0)[None]) - radius
    return (0.5 - distance).clip(0, 1).astype(np.float32)
