"""Read video files and network streams with PyAV, whose packages contain FFmpeg with decoders for AV1, HEVC and VP9.

Called by :func:`mmdet.video.source.open_video` if PyAV is installed, instead of :mod:`mmdet.video.opencv_reader`.
"""
from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import IO, Any

import av
import cv2
import numpy as np
from av.stream import Disposition
from mmengine.logging import print_log

from mmdet.errors import UserError, counted
from mmdet.paths import is_utf8, shown
from mmdet.video.frames import DEFAULT_FPS, STALL, Clock, VideoFrame, is_chosen
from mmdet.video.video_options import MOST_FPS

NETWORK_TIMEOUT = 30.0  # seconds
BROKEN_READS = 100  # consecutive errors of the container after which reading stops
# containers whose header states the duration of the video; others estimate it
_STATED = ('mov,mp4,m4a,3gp,3g2,mj2', 'matroska,webm', 'avi', 'flv')
_TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}


class PyAVReader:
    """Decode a video with PyAV, see :class:`mmdet.video.frames.Reader`.

    Frames are rotated according to the display matrix of the file and converted to 8 bits. Damaged frames are left out
    and counted in one warning; decoding continues after them.

    Args:
        source: path or address.
        text: source as given by the user, for messages.
        live: a network stream, which has ended if no data arrives for ``STALL`` seconds; decoded with less delay.
        alone: read no file or address that the source, which is a file, refers to.

    Attributes:
        finite: whether the source is read like a file: it states its duration or size, or is a playlist.

    Raises:
        UserError: the source cannot be opened, or has no video.
    """

    def __init__(self, source: str, text: str, live: bool = False, alone: bool = False) -> None:
        self._source, self._text, self._live, self._alone = source, shown(text), live, alone
        self._network = '://' in source and not alone
        self._file: IO[bytes] | None = None
        self._container = self._open()
        self._stream = self._choose_stream(self._container)
        rate = float(self._stream.average_rate or self._stream.guessed_rate or 0)
        self.fps = rate if 0 < rate <= MOST_FPS else DEFAULT_FPS
        self._stated = self._stated_seconds()
        frames = self._stream.frames or round((self._stated or 0) * self.fps)
        self.expected: int | None = frames if frames > 0 else None
        # the segments of a playlist arrive at once, so that it is read like a file
        self.finite = bool(self.expected or self._container.duration or self._container.size > 0
                           or self._container.format.name in ('hls', 'dash'))
        self._clock = Clock(1 / self.fps)
        self._last_stamp: int | None = None  # of the last frame decoded
        self._last_dts: int | None = None  # highest of the packets read
        self._sent = self._errors = self._given = 0  # numbers of packets with a frame, errors, frames
        self.faults: list[str] = []
        self._end = 0.0  # seconds at which the packets read so far end

    def read(self, chosen: slice) -> Generator[VideoFrame, None, None]:
        """Yield the chosen frames. Other frames are decoded, too, since seeking in compressed files is not exact."""
        index = -1
        try:
            for index, frame in enumerate(self._decode()):
                time = self._clock.tick(frame.time)
                if is_chosen(index, chosen):
                    yield VideoFrame(_bgr(frame), index, time=time)
                if index + 1 == chosen.stop:
                    break
            self._report(ended=index + 1 != chosen.stop)
        finally:
            self._close()

    def _open(self) -> Any:
        options = {}
        if self._source.startswith('rtsp'):
            options = {'rtsp_transport': 'tcp'}
        elif self._source.startswith('udp'):
            options = {'overrun_nonfatal': '1'}  # packets may arrive faster than they are read, until reading begins
        elif self._alone:
            options = {'protocol_whitelist': 'none'}  # needed for every file that FFmpeg opens by itself
        timeout = (NETWORK_TIMEOUT, STALL if self._live else NETWORK_TIMEOUT) if self._network else None
        # absolute: a file "camera:1.mp4" is no protocol
        source: Any = self._source if self._network else os.path.abspath(self._source)
        try:
            if self._alone or not is_utf8(source):  # PyAV takes other names only as open files
                source = self._file = open(source, 'rb')  # noqa: SIM115 - closed with the container
            return av.open(source, timeout=timeout, options=options)
        except (av.FFmpegError, OSError) as error:
            reason = error.strerror or str(error)
            if not self._network:
                remedy = 'is it a video? ffmpeg -i FILE says what it holds'
                if self._alone:
                    remedy = 'is it a complete video? Playlists are refused'
                elif isinstance(error, OSError) and not isinstance(error, av.error.InvalidDataError):
                    remedy = f'{reason}; check the file'
                raise UserError(f'{self._text}: cannot be opened; {remedy}') from error
            if isinstance(error, av.error.InvalidDataError):
                raise UserError(f'{self._text}: the address answers, but sends no video; check the address') from error
            raise UserError(f'{self._text}: cannot be reached ({reason}); check the address and the network') from error

    def _close(self) -> None:
        self._container.close()
        if self._file is not None:
            self._file.close()

    def _choose_stream(self, container: Any) -> Any:
        """Return the default video stream, else the first one; cover pictures are ignored."""
        streams = [stream for stream in container.streams.video
                   if not stream.disposition & Disposition.attached_pic]
        if not streams:
            what = 'only a cover picture' if container.streams.video else 'no video'
            raise UserError(f'{self._text}: holds {what}; choose a file with a video stream')
        stream = next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])
        if stream.codec_context is None:
            raise UserError(f'{self._text}: its codec cannot be decoded here; convert it, for example with '
                            'ffmpeg -i FILE -c:v libx264 NEW.mp4')
        pixels = stream.codec_context.pix_fmt or ''
        if 'f32' in pixels or 'f16' in pixels:
            raise UserError(f'{self._text}: holds floating-point values ({pixels}), which have no fixed range; convert '
                            'it to 8 bits')
        stream.thread_type = 'SLICE' if self._live else 'AUTO'  # frame threads delay frames
        if self._live:
            stream.codec_context.flags |= av.codec.context.Flags.low_delay
        return stream

    def _stated_seconds(self) -> float | None:
        """Return the duration of the video stream that the header states, in seconds; None if it does not."""
        if self._container.format.name not in _STATED:
            return None
        stream = self._stream
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        if text := stream.metadata.get('DURATION'):  # Matroska: 00:01:02.345000000
            try:
                hours, minutes, seconds = text.split(':')
                return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
            except ValueError:
                return None
        if self._container.duration and len(self._container.streams) == 1:
            return self._container.duration / av.time_base
        return None

    def _decode(self) -> Iterator[Any]:
        """Yield all frames that can be decoded.

        With frame threads, PyAV drops frames that are decoded together with a damaged one, some of them without an
        error, and which ones depends on the timing. At the first error, the frames after the last one are therefore
        decoded again.
        """
        for packet in self._packets():
            self._count(packet)
            errors = self._errors
            yield from self._frames_of(packet)
            if self._errors > errors and not self._network and (self._last_stamp is not None or not self._given):
                self._errors = errors  # it occurs again
                break
        if self._given < self._sent and not self._network:
            yield from self._rest()

    def _count(self, packet: Any) -> None:
        """Count a packet with a frame, and set the time at which the packets read so far end."""
        if not packet.size or packet.is_discard:
            return
        self._sent += 1
        if packet.dts is not None:
            self._last_dts = packet.dts if self._last_dts is None else max(self._last_dts, packet.dts)
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is not None:
            since = stamp - (self._stream.start_time or 0)
            self._end = max(self._end, float((since + (packet.duration or 0)) * packet.time_base))

    def _packets(self) -> Iterator[Any]:
        """Yield the packets of the stream, the last of which is empty; errors between them are counted."""
        broken = 0
        while True:
            try:
                for packet in self._container.demux(self._stream):
                    broken = 0
                    yield packet
                return
            except av.FFmpegError as error:
                broken += 1
                if self._live:  # LiveReader reports it
                    return
                if self._network or broken > BROKEN_READS:
                    reason = error.strerror or str(error)
                    self.faults.append(f'reading ends after frame {self._given} ({reason}); '
                                       + ('check the network' if self._network else 'the file is damaged there'))
                    print_log(f'{self._text}: {self.faults[-1]}', logger='current', level=logging.WARNING)
                    return
                self._errors += 1

    def _frames_of(self, packet: Any, after: int | None = None) -> Iterator[Any]:
        """Yield the frames that a packet completes, of which those up to the time stamp ``after`` are left out."""
        try:
            frames = self._stream.codec_context.decode(packet)
        except EOFError:
            return
        except av.FFmpegError:
            self._errors += 1
            return
        for frame in frames:
            if after is not None and (frame.pts is None or frame.pts <= after):
                continue
            self._given += 1
            if frame.pts is not None:
                self._last_stamp = frame.pts
            yield frame

    def _rest(self) -> Iterator[Any]:
        """Decode the frames after the last one again, from the key frame before it and without frame threads."""
        last, last_dts = self._last_stamp, self._last_dts
        if last is None and self._given:
            return  # the frames have no time stamps
        self._close()
        self._container = self._open()
        self._stream = self._choose_stream(self._container)
        self._stream.thread_type = 'SLICE'
        if last is None:
            self._sent = 0
        else:
            with suppress(av.FFmpegError):  # the container cannot seek
                self._container.seek(last, stream=self._stream)
        new = last is None  # whether packets and frames are those that were not read before
        for packet in self._packets():
            new = new or (packet.dts is not None and last_dts is not None and packet.dts > last_dts)
            if new:
                self._count(packet)
            for frame in self._frames_of(packet, after=last):
                last = None  # time stamps after a gap may be lower
                self._errors = max(self._errors, 1)  # the frame was dropped, so that others may be missing
                yield frame

    def _report(self, ended: bool) -> None:
        """Warn once about missing frames, at the end of the source or (``ended`` False) of the chosen frames."""
        faults = []
        if self._errors and not ended:
            faults.append(f'left out: at least {counted(self._errors, "damaged frame")}')
        elif self._errors and self._given < self._sent:
            faults.append(f'left out: {counted(self._sent - self._given, "damaged frame")} of {self._sent}')
        tolerance = max(2 / self.fps, self._clock.longest, 0.1)  # the last frame's duration may not be known
        if ended and self._given and self._stated and self._end < self._stated - tolerance:
            faults.append(f'it is cut off after {self._end:.2f} of {self._stated:.2f} seconds (frame {self._given})')
        if self._sent and not self._given:
            raise UserError(f'{self._text}: no frame of {self._sent} can be decoded; the file is damaged, or '
                            f'its codec ({self._stream.codec_context.name}) is not supported')
        if faults:
            self.faults += faults
            print_log(f'{self._text}: {"; ".join(faults)}', logger='current', level=logging.WARNING)


def _bgr(frame: Any) -> np.ndarray:
    """Convert a frame to (H, W, 3) uint8 BGR, rotated according to its display matrix."""
    image = frame.to_ndarray(format='bgr24')
    turn = _TURNS.get(round(frame.rotation) % 360)
    return image if turn is None else cv2.rotate(image, turn)
