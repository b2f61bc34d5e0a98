"""Read the frames of a video: of a file, address, folder, glob, camera or iterable of arrays.

Called by :class:`mmdet.apis.VideoInferencer` and tools/video_demo.py. Until the first frame is requested, only as much
is read as is needed to open the source; one frame at a time is in memory.
"""
from __future__ import annotations

import glob
import importlib.util
import os
from collections.abc import Generator, Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmdet.errors import UserError, counted
from mmdet.paths import IMAGE_ENDINGS, match_paths, output_name, shown, visible_files, visible_folders
from mmdet.shipped import find_shipped
from mmdet.video.arrays import bgr_image, check_video_array
from mmdet.video.frames import DEFAULT_FPS, Reader, VideoFrame, number_of
from mmdet.video.image_reader import FLOAT_ENDINGS, ImageReader
from mmdet.video.live import RECONNECT, LiveFrames, LiveReader
from mmdet.video.video_options import check_video_options

if TYPE_CHECKING:
    from mmdet.video.opencv_reader import OpenCVReader
    from mmdet.video.pyav_reader import PyAVReader

VIDEO_ENDINGS = ('.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm', '.mpg', '.mpeg', '.ts', '.mts', '.m2ts', '.wmv',
                 '.flv', '.3gp', '.ogv', '.gif')
LIVE_SCHEMES = ('udp', 'rtp', 'rtsp', 'rtsps', 'rtmp', 'rtmps', 'srt', 'tcp')  # http may be a file or a stream


class VideoSource:
    """An iterator over the chosen frames; returned by :func:`open_video`.

    Attributes:
        name: name for the output files of the video, see :func:`mmdet.paths.output_name`.
        fps: frames per second of the chosen frames: that of the source, divided by the stride.
        path: path of the file, or of the folder of the images; None if there is none.
        length: exact number of frames, if it is known without decoding (images, lists), else None.
        expected: the same, or an estimate from the header of a video file, for progress bars; None: unknown.
        live: dropped frames and latencies of a camera or network stream; None for other sources.
        faults: what is missing because the source is damaged, as in the warning; complete after the last frame.
    """

    def __init__(self, name: str, frames: Generator[VideoFrame, None, None], fps: float, length: int | None,
                 path: Path | None = None, expected: int | None = None, live: LiveFrames | None = None,
                 faults: list[str] | None = None) -> None:
        self.name = output_name(name, 'video')
        self.fps = fps
        self.length = length
        self.expected = length if expected is None else expected
        self.path = path
        self.live = live
        self.faults = [] if faults is None else faults
        self._frames = self._checked(frames)

    def __iter__(self) -> VideoSource:
        return self

    def __next__(self) -> VideoFrame:
        return next(self._frames)

    def close(self) -> None:
        """Close the file or camera."""
        self._frames.close()

    def stop(self) -> None:
        """End a live source, also while another thread waits for its next frame; no effect on other sources."""
        if self.live is not None:
            self.live.stop()

    def _checked(self, frames: Generator[VideoFrame, None, None]) -> Generator[VideoFrame, None, None]:
        """Yield the frames; raise UserError if a frame has another size than the first, or if there is no frame."""
        size = None
        try:
            for frame in frames:
                size = size or frame.image.shape[:2]
                if frame.image.shape[:2] != size:
                    height, width = frame.image.shape[:2]
                    raise UserError(f'{shown(frame.path or self.name)}: frame {frame.index} has {width}x{height} '
                                    f'pixels, those before {size[1]}x{size[0]}; give frames of one size')
                yield frame
        finally:
            frames.close()
        if size is None:
            raise UserError(f'{self.name}: no frame to read; choose an earlier --start, or check the video')


def open_video(video: str | os.PathLike | int | Iterable[Any], start: int = 0, end: int | None = None,
               stride: int = 1, on_bad_frame: str = 'error', every_frame: bool = False,
               reconnect: int = RECONNECT) -> VideoSource:
    """Open a video of any kind.

    Cameras and network streams are live: each frame returned is the newest one, and those that arrived during the
    processing of the previous one are dropped. Files, also at an address, are read completely.

    Args:
        video: a video file or address (``rtsp://...``), a folder of images, a glob of images (``'frames/*.png'``), an
            image (also a TIFF stack, an animated WebP or PNG), a camera's number (as int or text), or an iterable of
            (H, W, 3) uint8 BGR or (H, W) uint8 arrays or tensors, such as a list or an array (T, H, W, 3). A single
            array (H, W, 3) is not a video: give ``[image]``. Image files are sorted in natural order, frame9 before
            frame10.
        start: number of the first frame, from 0.
        end: number of the frame before which to stop; None: read to the end.
        stride: distance between two chosen frames.
        on_bad_frame: 'error', or 'skip': leave out image files that cannot be read, and warn once.
        every_frame: do not drop frames of live sources; the results may then fall behind.
        reconnect: maximum number of attempts in a row to reconnect to a live source that has ended.

    Raises:
        UserError: the video does not exist, cannot be opened, or has no frame.
    """
    check_video_options(start=start, end=end, stride=stride, on_bad_frame=on_bad_frame, reconnect=reconnect)
    chosen = slice(start, end, stride)
    if isinstance(video, (int, np.integer)) and not isinstance(video, bool):
        return _camera(int(video), chosen, every_frame, reconnect)
    if not isinstance(video, (str, os.PathLike)):
        check_video_array(video)
        return _arrays(video, chosen)
    text = os.fspath(video)
    if is_camera(text):
        return _camera(int(text), chosen, every_frame, reconnect)
    if '://' in text:
        return _address(text, chosen, every_frame, reconnect)
    found = find_videos(text)
    if len(found) > 1:
        raise UserError(f'{shown(text)}: holds {len(found)} videos, such as {shown(found[0].path)}; give one of them')
    return found[0].open(chosen, on_bad_frame)


def open_untrusted(path: str, end: int | None = None) -> VideoSource:
    """Open a video or image file of someone else, such as an upload. Only this file is read.

    Playlists and other formats that refer to further files or addresses could otherwise show files of this machine.

    Args:
        path: path of the file; not a folder, glob, address or camera.
        end: see :func:`open_video`.

    Raises:
        UserError: the file cannot be opened by itself, or has no frame; or PyAV is not installed.
    """
    return _file(Path(path), path).open(slice(0, end, 1), alone=True)


def is_camera(text: str) -> bool:
    """Return whether a text is the number of a camera: digits that are not the name of a file."""
    return text.isascii() and text.isdecimal() and not os.path.exists(text)


class LocalVideo:
    """A video on disk: a video file or image files.

    Attributes:
        text: source as given by the user, for messages.
        name: name of the video.
        path: path of the file, or of the folder of the images.
        images: image files in order; empty for a video file.
    """

    def __init__(self, text: str, name: str, path: Path, images: list[Path] | None = None) -> None:
        self.text, self.name, self.path, self.images = text, name, path, images or []

    def open(self, chosen: slice, on_bad_frame: str = 'error', alone: bool = False) -> VideoSource:
        """Open the video; for arguments and errors see :func:`open_video`, for ``alone`` :func:`open_untrusted`."""
        if not self.images:
            if self.path.is_file() and not self.path.stat().st_size:
                raise UserError(f'{shown(self.text)}: is empty (0 bytes); copy or record it again')
            return _source(self.name, _decoder(str(self.path), self.text, alone=alone), chosen, self.path)
        reader = ImageReader(self.images, self.text, on_bad_frame)
        return _source(self.name, reader, chosen, self.path, exact=on_bad_frame == 'error')


def find_videos(text: str | os.PathLike) -> list[LocalVideo]:
    """Find the videos of a path or glob, in natural order.

    A file is one video, and so are the images of a folder or those that match a glob. A folder of video files or of
    folders with images, or a glob that matches video files or folders, gives several videos. Hidden files and folders
    are left out.

    Raises:
        UserError: there are no videos, or images mixed with video files.
    """
    text = os.fspath(text)
    path = find_shipped(text)
    if path.is_dir():
        return _in_folder(path, text)
    if path.exists():
        return [_file(path, text)]
    if not glob.has_magic(text):
        raise UserError(f'{shown(text)}: no such video; give a video file, a folder or glob of images, or the number '
                        'of a camera')
    found = match_paths(path)
    if found and all(match.is_dir() for match in found):
        return [video for folder in found for video in _in_folder(folder, str(folder))]
    images = [file for file in found if file.suffix.lower() in (*IMAGE_ENDINGS, *FLOAT_ENDINGS)]
    videos = [file for file in found if file.suffix.lower() in VIDEO_ENDINGS]
    _refuse_both(text, images, videos)
    if videos:
        return [_file(file, str(file)) for file in videos]
    if not images:
        raise UserError(f'{shown(text)}: has no images or videos; supported extensions: '
                        f'{" ".join(IMAGE_ENDINGS + VIDEO_ENDINGS)}')
    return [LocalVideo(text, images[0].parent.resolve().name, images[0].parent, images)]


def _file(path: Path, text: str) -> LocalVideo:
    is_image = path.suffix.lower() in (*IMAGE_ENDINGS, *FLOAT_ENDINGS)
    return LocalVideo(text, path.stem, path, [path] if is_image else [])


def _in_folder(path: Path, text: str) -> list[LocalVideo]:
    images = visible_files(path, (*IMAGE_ENDINGS, *FLOAT_ENDINGS))
    videos = visible_files(path, VIDEO_ENDINGS)
    _refuse_both(text, images, videos)
    if images:
        return [LocalVideo(text, path.resolve().name, path, images)]
    if videos:
        return [_file(file, str(file)) for file in videos]
    found = [LocalVideo(str(folder), folder.name, folder, images) for folder in visible_folders(path)
             if (images := visible_files(folder, (*IMAGE_ENDINGS, *FLOAT_ENDINGS)))]
    if not found:
        raise UserError(f'{shown(text)}: has no images or videos; supported extensions: '
                        f'{" ".join(IMAGE_ENDINGS + VIDEO_ENDINGS)}')
    return found


def _refuse_both(text: str, images: list[Path], videos: list[Path]) -> None:
    if images and videos:
        raise UserError(f'{shown(text)}: holds {counted(len(images), "image")} and {counted(len(videos), "video")}, '
                        f'such as {shown(images[0].name)} and {shown(videos[0].name)}; choose with a glob such as '
                        f'"{shown(videos[0].parent)}/*{videos[0].suffix}"')


def _source(name: str, reader: Reader, chosen: slice, path: Path | None = None, exact: bool = False) -> VideoSource:
    expected = None if reader.expected is None else number_of(chosen, reader.expected)
    folder_or_file = path.parent if isinstance(reader, ImageReader) and path is not None and path.is_file() else path
    return VideoSource(name, reader.read(chosen), reader.fps / chosen.step, expected if exact else None,
                       folder_or_file, expected, faults=reader.faults)


def _address(text: str, chosen: slice, every_frame: bool, reconnect: int) -> VideoSource:
    scheme, name = text.split('://', 1)
    reader = _decoder(text, text, scheme in LIVE_SCHEMES)
    if scheme in LIVE_SCHEMES or (scheme in ('http', 'https') and not reader.finite):
        return _live(name, LiveReader(reader, lambda: _decoder(text, text, live=True), text, reconnect), chosen,
                     every_frame)
    return _source(name, reader, chosen)


def _live(name: str, reader: LiveReader, chosen: slice, every_frame: bool) -> VideoSource:
    live = LiveFrames(reader, chosen, every_frame)
    return VideoSource(name, live.frames(), reader.fps / chosen.step, None, live=live)


def _decoder(source: str, text: str, live: bool = False, alone: bool = False) -> PyAVReader | OpenCVReader:
    """Prefer PyAV if it is installed: OpenCV stops at damaged frames, and its packages cannot decode AV1."""
    if importlib.util.find_spec('av') is not None:
        from mmdet.video.pyav_reader import PyAVReader
        return PyAVReader(source, text, live, alone)
    if alone:
        raise UserError(f'{shown(text)}: OpenCV would also read the files that it refers to; pip install av')
    from mmdet.video.opencv_reader import OpenCVReader
    return OpenCVReader(source, text, live)


def _camera(number: int, chosen: slice, every_frame: bool, reconnect: int) -> VideoSource:
    from mmdet.video.opencv_reader import OpenCVReader
    name = f'camera {number}'
    reader = LiveReader(OpenCVReader(number, name), lambda: OpenCVReader(number, name), name, reconnect)
    return _live(name, reader, chosen, every_frame)


def _arrays(arrays: Any, chosen: slice) -> VideoSource:
    def read() -> Generator[VideoFrame, None, None]:
        for index, array in islice(enumerate(arrays), chosen.start, chosen.stop, chosen.step):
            yield VideoFrame(bgr_image(array, index), index)

    length = number_of(chosen, len(arrays)) if hasattr(arrays, '__len__') else None
    return VideoSource('video', read(), DEFAULT_FPS / chosen.step, length)
