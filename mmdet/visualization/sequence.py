"""Visualise the results of whole videos as a folder of PNG frames, a GIF or an MP4 file.

Called frame by frame by the hook of ``test_video.py --show`` and by the video tools, through a
:class:`mmdet.video.frame_sink.FrameSink`, so that the network runs concurrently. Each encoder has a thread of its own.
"""
from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmdet.concurrency import BackgroundProcess, BackgroundThread, ImagePool
from mmdet.datasets.transforms.frame_loading import read_frame
from mmdet.errors import UserError
from mmdet.files import check_writable
from mmdet.paths import output_name
from mmdet.structures import DetDataSample

from .gif import GifWriter
from .mp4 import Mp4Writer, find_codec, to_i420
from .track_visualizer import DrawnObject, TrackVisualizer, check_picture
from .writers import PngWriter, check_fps

OUTPUTS = ('png', 'gif', 'mp4')
PNG_THREADS = 2  # encoding PNG costs more than everything else
# CPU time of a 1280x720 frame with five objects: painting 1.1 ms, conversion for MP4 1.2 ms, encoding 6 ms; decoding
# and the network need cores, too. With fewer than four cores, the process that writes the files paints.
CORES_PER_PAINTER = 4
MAX_PAINTERS = 8


def painter_processes() -> int:
    """Return the number of processes that paint frames beside one that writes files; 0 if there are few cores.

    Only for a :class:`SequenceVisualizer` in a :class:`mmdet.video.frame_sink.FrameSink`.
    """
    if not BackgroundProcess.available():
        return 0
    return min(len(os.sched_getaffinity(0)) // CORES_PER_PAINTER, MAX_PAINTERS)


class SequenceVisualizer:
    """Write ``<out_dir>/<video>/<frame:05d>.png``, ``<out_dir>/<video>.gif`` and ``<out_dir>/<video>.mp4``.

    ``<video>`` is the sample's ``video_name``, else the name of the folder that holds the frames, or ``video_<id>``. A
    context manager; files are complete after :meth:`close`.

    Args:
        out_dir: output folder, created if missing.
        class_names: class names by 0-based label.
        score_thr: objects with a score above it are drawn.
        fps: frames per second of GIF and MP4, if samples have no ``time``.
        outputs: any of 'png', 'gif', 'mp4'.
        gif_width: width in pixels at which GIFs of wider videos are drawn.
        visualizer: visualizer that draws the frames; None: a :class:`TrackVisualizer` with the given names and
            threshold.
        use_times: show each frame at the ``time`` of its sample (seconds) if it has one, else at ``fps``.
        audio: video file whose frames are added; MP4 files get its audio if ``use_times``. None: no audio.
        painters: number of processes that paint, forked by :meth:`start` or at the first frame; 0: the calling process
            paints. Pictures do not depend on it. See :func:`painter_processes`.

    Raises:
        UserError: an output is unknown, or the folder cannot be created.
    """

    needs_image = True  # see mmdet.video.frame_sink.FrameConsumer

    def __init__(
        self,
        out_dir: str | os.PathLike,
        class_names: Sequence[str] | None = None,
        score_thr: float = 0.5,
        fps: float = 10.0,
        outputs: Sequence[str] = ('png', 'gif'),
        gif_width: int = 320,
        visualizer: TrackVisualizer | None = None,
        use_times: bool = True,
        audio: Path | None = None,
        painters: int = 0,
    ) -> None:
        for output in outputs:
            if output not in OUTPUTS:
                raise UserError(f'unknown kind of picture {output!r}: choose from {", ".join(OUTPUTS)}')
        check_fps(fps)
        self.out_dir = Path(out_dir)
        self.fps = fps
        self.outputs = tuple(outputs)
        self.gif_width = gif_width
        self.visualizer = visualizer or TrackVisualizer(class_names, score_thr)
        self._written: list[Path] = []
        self._use_times = use_times
        self._audio = audio if use_times else None
        self._pool = ImagePool(partial(_painted, self.visualizer), painters,
                               partial(_warm_up, self.visualizer)) if painters else None
        check_writable(self.out_dir / 'video', 'pictures')

        self._open: dict[Any, _VideoPictures] = {}  # by video_id
        self._video_of_name: dict[str, Any] = {}

    def start(self) -> None:
        """Do early what would delay the first frame: fork the painters, load font and encoder."""
        if self._pool is None:
            _warm_up(self.visualizer)
        else:
            self._pool.start()
        if 'mp4' in self.outputs:
            find_codec()

    def add(self, image: np.ndarray | None, sample: DetDataSample) -> None:
        """Draw the next frame of a video.

        Frames of several videos may alternate if they have the metainfo ``video_length``: a video then ends with its
        last frame. A video of unknown length ends when another one begins.

        Args:
            image: (H, W, 3) uint8 BGR of the original size; None: ``sample.ori_img`` or the file ``sample.img_path``.
            sample: sample with ``pred_track_instances`` and the metainfo ``video_id``, ``frame_id``, ``img_path``. A
                video begins with ``frame_id`` 0 or a new ``video_id``.

        Raises:
            UserError: an image cannot be read, or a file cannot be written; the latter possibly in a later call.
        """
        if image is None:
            image = _read_image(sample)  # before the files of a video are created
        video_id, frame_id = sample.get('video_id'), int(sample.get('frame_id', 0))
        if frame_id == 0 or video_id not in self._open:
            self._end([open_id for open_id, video in self._open.items()
                       if open_id == video_id or video.length is None])
            name = sample.get('video_name') or video_name(sample.get('img_path'), video_id)
            self._open[video_id] = self._begin(video_id, name, sample.get('video_length'))
        video = self._open[video_id]
        video.add(image, sample, frame_id)
        if frame_id + 1 == video.length:
            self._end([video_id])

    def close(self) -> list[Path]:
        """Finish all files; further calls have no effect.

        Returns:
            The folders and files written, in the order of their creation.
        """
        try:
            self._end(list(self._open))
        finally:
            if self._pool is not None:
                self._pool.close()
        return self._written

    def __enter__(self) -> SequenceVisualizer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, video_id: Any, name: str, length: int | None) -> _VideoPictures:
        if self._video_of_name.setdefault(name, video_id) != video_id:
            name = f'{name}_{video_id}'
            self._video_of_name[name] = video_id
        visualizer = copy.copy(self.visualizer)  # each video has trails of its own
        visualizer.reset()
        png = PngWriter(self.out_dir / name, PNG_THREADS) if 'png' in self.outputs else None
        gif = GifWriter(self.out_dir / f'{name}.gif', self.fps, self.gif_width) if 'gif' in self.outputs else None
        mp4 = Mp4Writer(self.out_dir / f'{name}.mp4', self.fps, self._audio) if 'mp4' in self.outputs else None
        self._written += [path for path in (png and png.folder, gif and gif.path, mp4 and mp4.path) if path]
        return _VideoPictures(visualizer, self._pool, png, gif, mp4, length, self._use_times)

    def _end(self, video_ids: Sequence[Any]) -> None:
        with ExitStack() as stack:  # closes all, also after an error
            for video_id in video_ids:
                stack.callback(self._open.pop(video_id).close)


class _VideoPictures:
    """The files of one video, which are encoded in a thread each.

    Args:
        visualizer: visualizer of the frames, used for this video only.
        pool: processes that paint; None: :meth:`add` paints.
        png, gif, mp4: writers; None: the file is not written.
        length: number of frames of the video; None: unknown.
        use_times: see :class:`SequenceVisualizer`.
    """

    def __init__(self, visualizer: TrackVisualizer, pool: ImagePool | None, png: PngWriter | None,
                 gif: GifWriter | None, mp4: Mp4Writer | None, length: int | None, use_times: bool) -> None:
        self.length = length
        self._visualizer, self._pool, self._use_times = visualizer, pool, use_times
        self._gif = gif
        self._shape: tuple[int, ...] = ()  # of the first image
        # painters convert frames, too: the thread of the encoder takes frames one after the other
        self._converted = pool is not None and png is None and mp4 is not None and mp4.takes_i420()
        self._png_thread = None if png is None else BackgroundThread(_of_painted(png.write), png.close, name='png')
        self._gif_thread = None if gif is None else BackgroundThread(_of_painted(gif.write), gif.close, name='gif')
        self._mp4_thread = None if mp4 is None else BackgroundThread(_of_painted(mp4.write), mp4.close, name='mp4')

    def add(self, image: np.ndarray, sample: DetDataSample, frame_id: int) -> None:
        """Draw and write a frame."""
        objects = self._visualizer.select(sample.get('pred_track_instances'))
        time = sample.get('time') if self._use_times else None
        small_size = None if self._gif is None else self._gif.size_for(*image.shape[:2])
        full = None
        if self._png_thread is not None or self._mp4_thread is not None:
            self._shape = self._shape or image.shape
            converted = self._converted and image.shape == self._shape and small_size != image.shape[1::-1]
            full = self._paint(image, objects, as_i420=converted)
            if self._png_thread is not None:
                self._png_thread.put(full, frame_id)
            if self._mp4_thread is not None:
                self._mp4_thread.put(full, time)
        if self._gif_thread is not None and small_size is not None:
            if full is None or small_size != image.shape[1::-1]:
                # drawn at the small size instead of resized, so that text and lines are readable
                small = cv2.resize(image, small_size, interpolation=cv2.INTER_AREA)
                full = self._paint(small, objects, small_size[0] / image.shape[1])
            self._gif_thread.put(full, time)

    def _paint(self, image: np.ndarray, objects: list[DrawnObject], scale: float = 1.0,
               as_i420: bool = False) -> Callable[[], np.ndarray]:
        """Return a function that waits for the painted image, see :meth:`mmdet.concurrency.ImagePool.submit`."""
        check_picture(image)
        if self._pool is not None:
            return self._pool.submit(image, objects, scale, as_i420)
        painted = self._visualizer.paint(image, objects, scale)
        return lambda: painted

    def close(self) -> None:
        """Finish all files, even after an error."""
        with ExitStack() as stack:
            for thread in (self._png_thread, self._gif_thread, self._mp4_thread):
                if thread is not None:
                    stack.callback(thread.close)


def _of_painted(write: Callable[..., None]) -> Callable[..., None]:
    """Return a function that waits for a painted frame and writes it."""
    return lambda painted, *args: write(painted(), *args)


def _painted(visualizer: TrackVisualizer, image: np.ndarray, objects: list[DrawnObject], scale: float,
             as_i420: bool) -> np.ndarray:
    """Paint on an image; return it, or its conversion for :meth:`Mp4Writer.write`."""
    visualizer.paint_on(image, objects, scale)
    return to_i420(image) if as_i420 else image


def _warm_up(visualizer: TrackVisualizer) -> None:
    """Paint once, which loads the font and the code that the first frame would wait for."""
    visualizer.paint_on(np.zeros((64, 64, 3), np.uint8), [DrawnObject((0, 0, 0), np.array([8., 8, 32, 32]), ['#1'])])


def video_name(img_path: str | None, video_id: Any) -> str:
    """Return the name for the files of a video, that of the folder of its frames (:func:`mmdet.paths.output_name`)."""
    return output_name(Path(img_path).parent.name if img_path else '', f'video_{video_id}')


def _read_image(sample: DetDataSample) -> np.ndarray:
    image = sample.get('ori_img')
    if image is not None:
        return image
    return read_frame(str(sample.get('img_path')), *sample.get('ori_shape', ()))
