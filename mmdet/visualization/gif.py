"""Write small GIF files of videos frame by frame, with one palette for all frames.

Called by :class:`~mmdet.visualization.SequenceVisualizer` and the video tools. The palette is computed from the first
seconds (median cut); a frame that differs too much from it, for example after a cut, gets a palette of its own. Pixels
that hardly change are not written again, which reduces the size most. If there is too much motion for the allowed size,
the threshold of change is raised, the number of colours is reduced, and finally frames are left out; the others keep
their times.

Pillow can write GIFs only with all frames in memory, so only its LZW encoder is used.
"""
from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import GifImagePlugin, Image

from .writers import ClosingWriter, cannot_write, check_fps, make_folder

PALETTE_FRAMES = 32  # number of frames that the palette is computed from ...
PALETTE_BYTES = 16_000_000  # ... or fewer, if they are larger than this
SAMPLE_PIXELS = 20_000  # pixels of these frames that median cut uses
BYTES_PER_SECOND = 500_000  # allowed size at a width of 320 pixels
BURST_BYTES = 350_000  # allowed in addition, for short sequences with much motion
TRANSPARENT = 255  # palette index that leaves a pixel unchanged
# (number of colours, largest change of a channel that is not written), from the highest to the lowest quality
QUALITY = ((255, 4), (255, 8), (128, 12), (64, 16), (32, 24), (16, 32))


class GifWriter(ClosingWriter):
    """Write an endlessly repeating GIF.

    Args:
        path: path of the file, which is created with the first frames; its folder is created if missing.
        fps: frames per second, if frames have no times.
        max_width: width in pixels to which wider frames are resized. The allowed size is 500 kB per second plus 350 kB
            up to 320 pixels, and grows with the square of the width above.
        max_fps: frames beyond this rate are left out.

    Raises:
        UserError: the file cannot be written, or fps is not positive.
    """

    def __init__(self, path: str | os.PathLike, fps: float, max_width: int = 320, max_fps: float = 12.5) -> None:
        check_fps(fps)
        self.path = Path(path)
        self.fps = fps
        self.max_width = max_width
        self.max_fps = max_fps
        self._count = 0  # frames added
        self._first: float | None = None  # time of the first frame
        self._now = 0.0  # seconds at which the last frame starts
        self._slot = -1  # index of the interval of 1 / max_fps seconds of the last frame kept
        self._waiting: list[tuple[np.ndarray, int]] = []  # frames and times before the palette is computed
        self._encoder: _Encoder | None = None
        self._file: BinaryIO | None = None
        make_folder(self.path.parent)

    def size_for(self, height: int, width: int) -> tuple[int, int]:
        """Return the (width, height) in which frames of a size are written."""
        scale = min(1, self.max_width / width)
        return max(1, round(width * scale)), max(1, round(height * scale))

    def write(self, frame: np.ndarray, time: float | None = None) -> None:
        """Append a frame.

        Args:
            frame: (H, W, 3) uint8 BGR.
            time: time in seconds, greater than that of the previous frame; the first frame is shown at 0. None: frames
                are shown at ``fps``.
        """
        if time is None:
            self._now = self._count / self.fps
        else:
            self._first = time if self._first is None else self._first
            self._now = time - self._first
        self._count += 1
        slot = int(self._now * self.max_fps + 1e-6)
        if slot == self._slot:
            return
        self._slot = slot
        if self._encoder is not None:
            size = self._encoder.size
        elif self._waiting:
            size = self._waiting[0][0].shape[1::-1]
        else:
            size = self.size_for(*frame.shape[:2])
        if frame.shape[1::-1] == size:
            frame = frame.copy()
        else:
            frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        if self._encoder is not None and self._file is not None:
            self._put(self._file, self._encoder.add(frame, _hundredths(self._now)))
            return
        self._waiting.append((frame, _hundredths(self._now)))
        if len(self._waiting) == PALETTE_FRAMES or len(self._waiting) * frame.nbytes > PALETTE_BYTES:
            self._start()

    def close(self) -> None:
        if self._waiting:
            self._start()
        file, self._file = self._file, None
        if self._encoder is not None and file is not None:
            self._put(file, self._encoder.finish(_hundredths(self._now + 1 / self.fps)))
            file.close()

    def _start(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._encoder = _Encoder([frame for frame, _ in waiting], max(1, self.max_width / 320)**2)
        try:
            self._file = self.path.open('wb')
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self._put(self._file, self._encoder.header())
        for frame, time in waiting:
            self._put(self._file, self._encoder.add(frame, time))

    def _put(self, file: BinaryIO, data: bytes) -> None:
        try:
            file.write(data)
        except OSError as error:
            raise cannot_write(self.path, error) from error


def _hundredths(seconds: float) -> int:
    return round(seconds * 100)


class _Encoder:
    """Encode frames of one size as a GIF. The bytes of a frame are returned with the next, which sets its duration.

    Args:
        frames: (h, w, 3) uint8 BGR frames to compute the palette from.
        allowance: allowed size of the file, in multiples of BYTES_PER_SECOND and BURST_BYTES.
    """

    def __init__(self, frames: list[np.ndarray], allowance: float) -> None:
        height, width = frames[0].shape[:2]
        self.size = (width, height)
        self.allowance = allowance
        self.table = _ColorTable(frames)
        self.table_is_shared = True
        self.source = np.zeros_like(frames[0])  # each pixel as it was last written
        self.level = 0
        self.spent = 0
        self.pending: tuple[int, bytes] | None = None  # time and bytes of the last frame

    def header(self) -> bytes:
        width, height = self.size
        screen = struct.pack('<6sHHBBB', b'GIF89a', width, height, 0xF7, 0, 0)
        endless = b'\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00'
        return screen + self.table.palette.tobytes() + endless

    def add(self, frame: np.ndarray, time: int) -> bytes:
        """Encode a frame that starts at a time (hundredths of a second); return the bytes of the previous frame."""
        over = self.spent - self.allowance * BYTES_PER_SECOND * time / 100
        if over > self.allowance * BURST_BYTES * 0.85:
            return b''  # the previous frame is shown longer
        if over > self.allowance * BURST_BYTES * 0.25:
            self.level = min(self.level + 1, len(QUALITY) - 1)
        elif over < 0:
            self.level = max(self.level - 1, 0)
        ready = self._release(time)
        if not self.table.suits(frame):
            self.table = _ColorTable([frame])
            self.table_is_shared = False
        data = self._image(frame)
        self.spent += len(data)
        self.pending = (time, data)
        return ready

    def finish(self, time: int) -> bytes:
        """Return the last bytes; ``time`` is the end of the video."""
        return self._release(time) + b'\x3b'

    def _release(self, time: int) -> bytes:
        if self.pending is None:
            return b''
        start, data = self.pending
        self.pending = None
        # transparent pixels keep the previous frame; viewers slow down frames of less than 2/100 s
        return struct.pack('<BBBBHBB', 0x21, 0xF9, 4, 0b101, min(max(time - start, 2), 65535), TRANSPARENT, 0) + data

    def _image(self, frame: np.ndarray) -> bytes:
        """Encode the changed pixels of a frame as an image block."""
        colors, tolerance = QUALITY[self.level]
        if self.spent == 0:
            changed = np.ones(frame.shape[:2], bool)
        else:
            changed = _max_channel(cv2.absdiff(frame, self.source)) > tolerance
        self.source[changed] = frame[changed]
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        top, bottom, left, right = (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) if len(rows) else (0, 1, 0, 1)
        window = np.s_[top:bottom, left:right]
        indices = np.where(changed[window], self.table.indices(frame[window], colors), TRANSPARENT).astype(np.uint8)
        image = Image.fromarray(indices)
        if self.table_is_shared:
            return b''.join(GifImagePlugin.getdata(image, (int(left), int(top))))
        image.putpalette(self.table.palette.tobytes())
        return b''.join(GifImagePlugin.getdata(image, (int(left), int(top)), include_color_table=True))


def _max_channel(image: np.ndarray) -> np.ndarray:
    """Compute the maximum over the channels, (h, w, 3) → (h, w); NumPy is much slower along a short axis."""
    blue, green, red = cv2.split(image)
    return cv2.max(cv2.max(blue, green), red)


class _ColorTable:
    """A palette of 255 colours, the 256th reserved for transparency, and the mapping of colours to it.

    Args:
        frames: (h, w, 3) uint8 BGR frames to compute the palette from.
    """

    def __init__(self, frames: list[np.ndarray]) -> None:
        pixels = np.concatenate([frame[::2, ::2].reshape(-1, 3) for frame in frames])
        # many more distinct pixels take seconds, during which Pillow holds the GIL
        self._sample = pixels[::-(-len(pixels) // SAMPLE_PIXELS)]
        self.palette = np.zeros((256, 3), np.uint8)  # RGB
        cut = self._median_cut(255)
        self.palette[:len(cut)] = cut
        self._used = len(cut)
        self._lookups: dict[int, np.ndarray] = {}
        self._usual_error = self._error(self._sample)

    def suits(self, frame: np.ndarray) -> bool:
        """Return whether the palette approximates a frame about as well as the frames it was computed from."""
        return self._error(frame[::4, ::4].reshape(-1, 3)) < 2 * self._usual_error + 4

    def indices(self, pixels: np.ndarray, colors: int) -> np.ndarray:
        """Return the palette indices (h, w) uint8 of BGR pixels (h, w, 3), using only ``colors`` colours."""
        if colors not in self._lookups:
            grid = np.arange(32) * 8 + 4
            blue, green, red = np.meshgrid(grid, grid, grid, indexing='ij')
            allowed = np.arange(self._used)
            if colors < 255:
                allowed = np.unique(self._nearest(self._median_cut(colors), allowed))
            self._lookups[colors] = self._nearest(np.stack([red, green, blue], axis=-1).reshape(-1, 3), allowed)
        five_bits = (pixels >> 3).astype(np.uint16)
        return self._lookups[colors][(five_bits[..., 0] << 10) | (five_bits[..., 1] << 5) | five_bits[..., 2]]

    def _median_cut(self, colors: int) -> np.ndarray:
        """Compute at most ``colors`` colours, (k, 3) RGB, that represent the sample."""
        image = Image.fromarray(np.ascontiguousarray(self._sample[None, :, ::-1]))
        quantized = image.quantize(colors, method=Image.Quantize.MEDIANCUT)
        return np.array(quantized.getpalette(), np.uint8).reshape(-1, 3)[:colors]

    def _nearest(self, rgb: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        """Return the indices (n,) uint8 of the allowed palette entries that are nearest to colours (n, 3)."""
        entries = self.palette[allowed].astype(np.float32)
        distance = (entries**2).sum(axis=1) - 2 * rgb.astype(np.float32) @ entries.T
        return allowed[distance.argmin(axis=1)].astype(np.uint8)

    def _error(self, bgr: np.ndarray) -> float:
        """Compute the mean absolute error per channel of pixels (n, 3)."""
        shown = self.palette[self.indices(bgr[None], 255)[0]][:, ::-1]
        return float(cv2.absdiff(bgr, np.ascontiguousarray(shown)).mean())
