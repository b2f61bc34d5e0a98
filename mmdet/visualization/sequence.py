"""Results of whole videos as pictures on disk: a folder of PNG frames, a GIF, an MP4 file.

Called frame by frame by the hook behind ``test_video.py --show`` and by the video tools, through a
:class:`mmdet.video.frame_sink.FrameSink`, so that the network goes on meanwhile. Each encoder has a thread of its own.
"""
from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmdet.concurrency import BackgroundThread
from mmdet.datasets.transforms.loading import read_frame
from mmdet.errors import UserError
from mmdet.files import check_writable
from mmdet.paths import output_name
from mmdet.structures import DetDataSample

from .gif import GifWriter
from .mp4 import Mp4Writer
from .track_visualizer import TrackVisualizer
from .writers import PngWriter, check_fps

OUTPUTS = ('png', 'gif', 'mp4')
PNG_THREADS = 2  # encoding PNG costs more than everything else


class SequenceVisualizer:
    """Writes ``<out_dir>/<video>/<frame:05d>.png``, ``<out_dir>/<video>.gif`` and ``<out_dir>/<video>.mp4``.

    ``<video>`` is the sample's ``video_name``, else the name of the folder that holds the frames, or ``video_<id>``. A
    context manager; files are complete after :meth:`close`.

    Args:
        out_dir: made if missing.
        class_names: names by 0-based label.
        score_thr: objects with a score strictly above are drawn.
        fps: frames per second of GIF and MP4, where samples have no ``time``.
        outputs: some of 'png', 'gif', 'mp4'.
        gif_width: pixels; GIFs of wider videos are drawn at this width.
        visualizer: draws the frames; by default a :class:`TrackVisualizer` of the names and the threshold given.
        use_times: show each frame at its sample's ``time`` (seconds), where it has one; otherwise at ``fps``.

    Raises:
        UserError: an unknown output, or a folder that cannot be made.
    """

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
        check_writable(self.out_dir / 'video', 'pictures')

        self._video_id: Any = None
        self._video_of_name: dict[str, Any] = {}
        self._png: PngWriter | None = None
        self._gif: GifWriter | None = None
        self._mp4: Mp4Writer | None = None
        self._threads: dict[str, BackgroundThread] = {}  # of the encoders, by output

    def add(self, image: np.ndarray | None, sample: DetDataSample) -> None:
        """Draw the next frame.

        Args:
            image: (H, W, 3) uint8 BGR of the original size; None: ``sample.ori_img``, or what ``sample.img_path``
                holds.
            sample: with ``pred_track_instances`` and the metainfo ``video_id``, ``frame_id``, ``img_path``. A video
                starts where ``frame_id`` is 0 or ``video_id`` is another one.

        Raises:
            UserError: an image cannot be read, a file cannot be written; the latter also in a later call.
        """
        video_id, frame_id = sample.get('video_id'), int(sample.get('frame_id', 0))
        if frame_id == 0 or video_id != self._video_id or not self._video_of_name:
            self._end_video()
            self._start_video(video_id, sample.get('video_name') or video_name(sample.get('img_path'), video_id))
        if image is None:
            image = _read_image(sample)
        objects = self.visualizer.prepare(sample.get('pred_track_instances'))
        time = sample.get('time') if self._use_times else None
        full = None
        if self._png is not None or self._mp4 is not None:
            full = self.visualizer.paint(image, objects)
        if self._png is not None:
            self._png.write(full, frame_id)
        if self._mp4 is not None:
            self._threads['mp4'].put(full, time)
        if self._gif is not None:
            size = self._gif.size_for(*image.shape[:2])
            if full is None or size != image.shape[1::-1]:
                # drawn small instead of made small, for text and lines to stay readable
                small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
                full = self.visualizer.paint(small, objects, size[0] / image.shape[1])
            self._threads['gif'].put(full, time)

    def close(self) -> list[Path]:
        """Finish all files; more calls do nothing.

        Returns:
            The folders and files written, in the order of their start.
        """
        self._end_video()
        return self._written

    def __enter__(self) -> SequenceVisualizer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start_video(self, video_id: Any, name: str) -> None:
        self._video_id = video_id
        if self._video_of_name.setdefault(name, video_id) != video_id:
            name = f'{name}_{video_id}'
            self._video_of_name[name] = video_id
        self.visualizer.reset()
        if 'png' in self.outputs:
            self._png = PngWriter(self.out_dir / name, PNG_THREADS)
            self._written.append(self._png.folder)
        if 'gif' in self.outputs:
            self._gif = GifWriter(self.out_dir / f'{name}.gif', self.fps, self.gif_width)
        if 'mp4' in self.outputs:
            self._mp4 = Mp4Writer(self.out_dir / f'{name}.mp4', self.fps)
        for output, writer in (('gif', self._gif), ('mp4', self._mp4)):
            if writer is not None:
                self._threads[output] = BackgroundThread(writer.write, writer.close, name=output)
                self._written.append(writer.path)

    def _end_video(self) -> None:
        closing = [] if self._png is None else [self._png.close]
        closing += [thread.close for thread in self._threads.values()]
        self._png = self._gif = self._mp4 = None
        self._threads = {}
        with ExitStack() as stack:  # closes all, also after an error
            for close in closing:
                stack.callback(close)


def video_name(img_path: str | None, video_id: Any) -> str:
    """Name the files of a video after the folder that holds its frames, see :func:`mmdet.paths.output_name`."""
    return output_name(Path(img_path).parent.name if img_path else '', f'video_{video_id}')


def _read_image(sample: DetDataSample) -> np.ndarray:
    image = sample.get('ori_img')
    if image is not None:
        return image
    return read_frame(str(sample.get('img_path')), *sample.get('ori_shape', ()))
