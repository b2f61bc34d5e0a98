"""GIF files of videos: small, one palette for all frames, written frame by frame.

Called by :class:`~mmdet.visualization.SequenceVisualizer` and the video tools. The palette comes from the first seconds
(median cut); a frame that differs too much from it, after a cut for example, gets one of its own. Pixels that hardly
change are not written again, which saves most of the size. Where the content moves too much for the size allowed, the
threshold of change rises, colours become fewer, and finally frames are left out; the others keep their times.

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

PALETTE_FRAMES = 32  # frames that the palette is made from, fewer where they are large:
PALETTE_BYTES = 16_000_000
SAMPLE_PIXELS = 20_000  # of those frames, that median cut sees
BYTES_PER_SECOND = 500_000  # at 320 pixels width
BURST_BYTES = 350_000
TRANSPARENT = 255  # palette index that leaves a pixel as it is
# (colours, smallest change of a channel that is written), from the best quality to the last resort
QUALITY = ((255, 4), (255, 8), (128, 12), (64, 16), (32, 24), (16, 32))


class GifWriter(ClosingWriter):
    """Write an endlessly repeating GIF.

    Args:
        path: the file; its folder is made if missing. It appears with the first frames.
        fps: frames per second, where frames come without times.
        max_width: pixels; wider frames are resized to it. The size allowed is 500 kB a second and 350 kB at 320 pixels
            and below, and grows with the square of the width above.
        max_fps: frames that follow faster are left out.

    Raises:
        UserError: the file cannot be written, or fps is not positive.
    """

    def __init__(self, path: str | os.PathLike, fps: float, max_width: int = 320, max_fps: float = 12.5) -> None:
        check_fps(fps)
        self.path = Path(path)
        self.fps = fps
        self.max_width = max_width
        self.max_fps = max_fps
        self._count = 0  # frames that came
        self._first: float | None = None  # time of the first frame
        self._now = 0.0  # seconds at which the last frame starts
        self._slot = -1  # of 1 / max_fps seconds, that the last frame kept lies in
        self._waiting: list[tuple[np.ndarray, int]] = []  # frames and times until there is a palette
        self._encoder: _Encoder | None = None
        self._file: BinaryIO | None = None
        make_folder(self.path.parent)

    def size_for(self, height: int, width: int) -> tuple[int, int]:
        """(width, height) that frames of a size are written in."""
        scale = min(1, self.max_width / width)
        return max(1, round(width * scale)), max(1, round(height * scale))

    def write(self, frame: np.ndarray, time: float | None = None) -> None:
        """Append a frame.

        Args:
            frame: (H, W, 3) uint8 BGR.
            time: in seconds, greater than that of the frame before; the first is shown at 0. None: at ``fps``.
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
    """Encode frames of one size as the bytes of a GIF. A frame's bytes are returned with the next frame, which sets its
    duration.

    Args:
        frames: (h, w, 3) uint8 BGR frames to make the palette from.
        allowance: how many times BYTES_PER_SECOND the file may have.
    """

    def __init__(self, frames: list[np.ndarray], allowance: float) -> None:
        height, width = frames[0].shape[:2]
        self.size = (width, height)
        self.allowance = allowance
        self.table = _ColorTable(frames)
        self.table_is_shared = True
        self.source = np.zeros_like(frames[0])  # each pixel when it was last written
        self.level = 0
        self.spent = 0
        self.pending: tuple[int, bytes] | None = None  # time and bytes of the last frame, its duration open

    def header(self) -> bytes:
        width, height = self.size
        screen = struct.pack('<6sHHBBB', b'GIF89a', width, height, 0xF7, 0, 0)
        endless = b'\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00'
        return screen + self.table.palette.tobytes() + endless

    def add(self, frame: np.ndarray, time: int) -> bytes:
        """Encode a frame that starts at a time (hundredths of a second); returns the bytes of the frame before."""
        over = self.spent - self.allowance * BYTES_PER_SECOND * time / 100
        if over > self.allowance * BURST_BYTES * 0.85:
            return b''  # leaves the last frame on the screen
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
        # keep what was there under transparent pixels; viewers slow down frames of less than 2/100 s
        return struct.pack('<BBBBHBB', 0x21, 0xF9, 4, 0b101, min(max(time - start, 2), 65535), TRANSPARENT, 0) + data

    def _image(self, frame: np.ndarray) -> bytes:
        """Image block of the frame's pixels that changed."""
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
    """Maximum over the channels, (h, w, 3) → (h, w); much faster than NumPy's along a short axis."""
    blue, green, red = cv2.split(image)
    return cv2.max(cv2.max(blue, green), red)


class _ColorTable:
    """A palette of 255 colours, the 256th reserved for transparency, and the mapping of colours to it.

    Args:
        frames: (h, w, 3) uint8 BGR frames to make the palette from.
    """

    def __init__(self, frames: list[np.ndarray]) -> None:
        pixels = np.concatenate([frame[::2, ::2].reshape(-1, 3) for frame in frames])
        # many more take seconds where all differ, and Pillow lets no other thread run meanwhile
        self._sample = pixels[::-(-len(pixels) // SAMPLE_PIXELS)]
        self.palette = np.zeros((256, 3), np.uint8)  # RGB
        cut = self._median_cut(255)
        self.palette[:len(cut)] = cut
        self._used = len(cut)
        self._lookups: dict[int, np.ndarray] = {}
        self._usual_error = self._error(self._sample)

    def suits(self, frame: np.ndarray) -> bool:
        """Whether the frame's colours are nearly as close to the palette as those that it was made from."""
        return self._error(frame[::4, ::4].reshape(-1, 3)) < 2 * self._usual_error + 4

    def indices(self, pixels: np.ndarray, colors: int) -> np.ndarray:
        """Palette indices (h, w) uint8 of BGR pixels (h, w, 3), using only ``colors`` of the palette's colours."""
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
        """(k, 3) RGB, k at most ``colors``, that represent the sample."""
        image = Image.fromarray(np.ascontiguousarray(self._sample[None, :, ::-1]))
        quantized = image.quantize(colors, method=Image.Quantize.MEDIANCUT)
        return np.array(quantized.getpalette(), np.uint8).reshape(-1, 3)[:colors]

    def _nearest(self, rgb: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        """(n,) uint8 indices of the allowed palette entries nearest to (n, 3) colours."""
        entries = self.palette[allowed].astype(np.float32)
        distance = (entries**2).sum(axis=1) - 2 * rgb.astype(np.float32) @ entries.T
        return allowed[distance.argmin(axis=1)].astype(np.uint8)

    def _error(self, bgr: np.ndarray) -> float:
        """Mean absolute error of a channel."""
        shown = self.palette[self.indices(bgr[None], 255)[0]][:, ::-1]
        return float(cv2.absdiff(bgr, np.ascontiguousarray(shown)).mean())
