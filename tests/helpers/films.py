"""Small video files of all kinds, written with PyAV: noise below, above it patches that tell the frame."""
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np

BITS = 6


def film_frame(index: int, width: int = 64, height: int = 48) -> np.ndarray:
    """(height, width, 3) uint8 BGR: weak noise, in the upper half bright and dark patches: the bits of ``index``."""
    image = np.random.default_rng(index).integers(122, 134, (height, width, 3), dtype=np.uint8)
    for bit in range(BITS):
        patch = slice(bit * width // BITS, (bit + 1) * width // BITS)
        image[:height // 2, patch] = 200 if index >> bit & 1 else 40
    return image


def frame_of(image: np.ndarray) -> int:
    """The index that an image was made with."""
    height, width = image.shape[:2]
    middles = [(2 * bit + 1) * width // (2 * BITS) for bit in range(BITS)]
    return sum(int(image[height // 4, middle].mean() > 120) << bit for bit, middle in enumerate(middles))


def write_film(path: Path, frames: int = 12, codec: str = 'libx264', pixels: str = 'yuv420p', rate: int | Fraction = 25,
               size: tuple[int, int] = (64, 48), milliseconds: list[int] | None = None, audio: bool = False,
               cover: bool = False, **options: str) -> Path:
    """Write a film.

    Args:
        path: its ending chooses the container.
        milliseconds: time of each frame; None: at a constant rate.
        audio: with a second of silence.
        cover: with a cover picture as the first stream.
        options: of the codec.
    """
    import av  # other films are read without it

    with av.open(str(path), 'w') as container:
        if cover:
            picture = container.add_stream('mjpeg', rate=1)
            picture.width, picture.height, picture.pix_fmt = 32, 32, 'yuvj420p'
            picture.disposition = av.stream.Disposition.attached_pic
        if codec == 'libx264':  # with its own rate control, equal frames do not always give equal bytes
            options = {'qp': '23'} | options
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        if milliseconds is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream('aac', rate=16000) if audio else None
        if cover:
            image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format='bgr24')
            container.mux(picture.encode(image.reformat(format='yuvj420p')))
            container.mux(picture.encode())
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(film_frame(index, *size), format='bgr24').reformat(format=pixels)
            if milliseconds is not None:
                frame.pts, frame.time_base = milliseconds[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            for start in range(0, 16000, 1000):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), format='fltp', layout='mono')
                frame.sample_rate, frame.pts = 16000, start
                container.mux(sound.encode(frame))
            container.mux(sound.encode())
    return path


def damage(path: Path, start: float, size: int = 200) -> slice:
    """Overwrite bytes of an MP4 file's media data with zeros, from a place given as part of it; return their place."""
    data = bytearray(path.read_bytes())
    media = data.index(b'mdat') + 4
    length = int.from_bytes(data[media - 8:media - 4], 'big') - 8
    first = media + int(start * length)
    last = min(first + size, media + length)
    data[first:last] = bytes(last - first)
    path.write_bytes(data)
    return slice(first, last)


def frames_touched(path: Path, place: slice) -> set[int]:
    """Return the numbers of the frames whose groups of pictures have bytes at ``place``."""
    import av

    groups: list[list] = []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            if packet.is_keyframe:
                groups.append([])
            if packet.size:
                groups[-1].append(packet)
    stamps = sorted(packet.pts for group in groups for packet in group)
    return {stamps.index(packet.pts) for group in groups for packet in group
            if any(other.pos < place.stop and other.pos + other.size > place.start for other in group)}


def turn(path: Path, width: int, height: int, degrees: int) -> None:
    """Set the display matrix of an MP4 file, as a phone held upright does; degrees clockwise."""
    data = bytearray(path.read_bytes())
    place = data.index(b'tkhd') + 4 + 40
    a, b, c, d, x, y = {90: (0, 1, -1, 0, height, 0), 180: (-1, 0, 0, -1, width, height),
                        270: (0, -1, 1, 0, 0, width)}[degrees]
    one = 1 << 16
    data[place:place + 36] = struct.pack('>9i', a * one, b * one, 0, c * one, d * one, 0, x * one, y * one, 1 << 30)
    path.write_bytes(data)
