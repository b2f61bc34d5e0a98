"""Copy the audio of a video file into the MP4 file of its drawn frames, by PyAV. Called by :class:`.mp4.X264Video`."""
from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
from mmengine.logging import print_log

from mmdet.paths import is_utf8, shown

# codecs that MP4 files may hold and browsers play, and the least sampling rate; others become AAC
COPIED = {'aac': 0, 'mp3': 16000, 'opus': 0}
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # samples per second


class AudioCopy:
    """The audio stream of a file as a stream of an output container.

    Packets are copied if MP4 files may hold them, else encoded again as AAC. After an error of the input, the rest has
    no audio, and one line says so.

    Args:
        path: video file.
        container: output container, to which a stream is added; its header is not written yet.
    """

    @classmethod
    def open(cls, path: Path, container: Any) -> AudioCopy | None:
        """Return the copy; None if the file has no audio or cannot be opened."""
        try:
            source = cls(path, container)
        except (av.FFmpegError, OSError, ValueError) as error:
            print_log(f'{shown(path)}: its audio is left out ({error})', logger='current', level=logging.WARNING)
            return None
        return source if source._stream is not None else None

    def __init__(self, path: Path, container: Any) -> None:
        self._path, self._output = path, container
        self._file: IO[bytes] | None = None
        source: Any = os.path.abspath(path)  # absolute: a file "camera:1.mp4" is no protocol
        if not is_utf8(source):
            source = self._file = open(source, 'rb')  # noqa: SIM115 - closed with the container
        self._input: Any = av.open(source)
        streams = self._input.streams
        self._stream: Any = next((stream for stream in streams.audio if stream.codec_context is not None), None)
        if self._stream is None or not streams.video:
            self._stream = None
            self.close()
            return
        picture = streams.video[0]
        # frames are counted from the first one, and so is their audio
        self._origin = float((picture.start_time or 0) * picture.time_base)
        codec = self._stream.codec_context.codec.canonical_name
        self._copies = codec in COPIED and self._stream.rate >= COPIED[codec]
        if self._copies:
            self._target = container.add_stream_from_template(self._stream)
        else:
            rate = min(AAC_RATES, key=lambda rate: abs(rate - self._stream.rate))
            self._target = container.add_stream('aac', rate=rate)
            self._target.layout = 'mono' if self._stream.channels == 1 else 'stereo'
        self._packets: Iterator[tuple[float, Any]] | None = None
        self._waiting: tuple[float, Any] | None = None

    def write_until(self, end: float, start: float) -> None:
        """Write the audio up to a time.

        Args:
            end: time in the output in seconds.
            start: time in the source at which the output begins, in seconds after its first frame; the same in all
                calls.
        """
        if self._packets is None:
            self._packets = self._shifted(start)
        while (self._waiting or self._advance()) and self._waiting is not None and self._waiting[0] < end:
            self._output.mux(self._waiting[1])
            self._waiting = None

    def finish(self, end: float, start: float) -> None:
        """Write the audio up to the end of the output and close the source."""
        self.write_until(end, start)
        if not self._copies:
            self._output.mux(self._target.encode(None))
        self.close()

    def close(self) -> None:
        """Close the source."""
        self._input.close()
        if self._file is not None:
            self._file.close()

    def _advance(self) -> bool:
        assert self._packets is not None
        self._waiting = next(self._packets, None)
        return self._waiting is not None

    def _shifted(self, start: float) -> Iterator[tuple[float, Any]]:
        """Yield the packets of the output, with their times in seconds, from its beginning on."""
        begin = self._origin + start
        with suppress(av.FFmpegError):  # the container cannot seek
            if start:
                self._input.seek(int(begin * av.time_base))
        last = -1
        for item, seconds in self._read():
            now = seconds - begin
            if now < 0:
                continue
            if self._copies:
                stamp = round(now / item.time_base)
                if stamp > last:  # damaged files have packets in the wrong order
                    item.pts = item.dts = last = stamp
                    item.stream = self._target
                    yield now, item
            else:
                item.pts, item.time_base = round(now * item.sample_rate), Fraction(1, item.sample_rate)
                # a negative time is that of the encoder's padding, which would delay all streams of the file
                yield from ((now, packet) for packet in self._target.encode(item) if packet.pts >= 0)

    def _read(self) -> Iterator[tuple[Any, float]]:
        """Yield the packets of the source or, if they are encoded again, its frames, with their times in seconds."""
        try:
            for packet in self._input.demux(self._stream):
                for item in [packet] if self._copies else packet.decode():
                    if item.pts is not None and (not self._copies or item.size):
                        yield item, float(item.pts * item.time_base)
        except av.FFmpegError as error:
            print_log(f'{shown(self._path)}: its audio ends early ({error.strerror or error}); the file is damaged',
                      logger='current', level=logging.WARNING)
