"""Read a video from images: from a folder or glob of files, one image, or one file with several frames.

Called by :func:`mmdet.video.source.open_video`.
"""
from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from mmengine.logging import print_log
from PIL import Image

from mmdet.datasets.transforms.frame_loading import BadFrameError, read_frame
from mmdet.errors import UserError, counted
from mmdet.paths import IMAGE_ENDINGS, shown
from mmdet.video.frames import DEFAULT_FPS, VideoFrame, is_chosen

STACK_ENDINGS = ('.tif', '.tiff', '.webp', '.png')  # extensions of files that may contain several frames
FLOAT_ENDINGS = ('.exr', '.hdr', '.pfm')
_DAMAGED = (OSError, EOFError, SyntaxError, ValueError, Image.DecompressionBombError)  # errors of Pillow
_SAME_KIND = {'.jpeg': '.jpg', '.tiff': '.tif'}


class ImageReader:
    """Read images as a video, see :class:`mmdet.video.frames.Reader`.

    Args:
        paths: image files in order. A single file may contain several frames: a TIFF stack, an animated WebP or PNG.
        text: source as given by the user, for messages.
        on_bad_frame: 'error', or 'skip': leave out images that cannot be read, with one warning that counts them.

    Raises:
        UserError: there are no files, two files of the same name (such as a frame and its mask), or several files of
            which one has several frames.
    """

    def __init__(self, paths: Sequence[Path], text: str, on_bad_frame: str = 'error') -> None:
        self._text = shown(text)
        self._paths = list(paths)
        self._skip = on_bad_frame == 'skip'
        self._check_names()
        for path in self._paths:
            pages, seconds = _pages(path)
            if pages > 1 and len(self._paths) > 1:
                raise UserError(f'{shown(path)}: holds {pages} frames and is one of {len(self._paths)} files; give '
                                'each file as a video of its own')
        self.expected: int | None = pages if pages > 1 else len(self._paths)
        self.fps = 1 / seconds if seconds > 0 else DEFAULT_FPS
        self._pages, self._timed = pages, seconds > 0
        self._bad: list[BadFrameError] = []
        self.faults: list[str] = []

    def read(self, chosen: slice) -> Generator[VideoFrame, None, None]:
        """Yield the chosen frames."""
        yield from self._stack(chosen) if self._pages > 1 else self._files(chosen)
        if self._bad:
            self.faults.append(f'left out: {counted(len(self._bad), "image")} that cannot be read; the first: '
                               + shown(str(self._bad[0])))
            print_log(f'{self._text}: {self.faults[0]}', logger='current', level=logging.WARNING)

    def _files(self, chosen: slice) -> Iterator[VideoFrame]:
        for index in range(*chosen.indices(len(self._paths))):
            path = str(self._paths[index])
            try:
                yield VideoFrame(read_frame(path), index, path)
            except BadFrameError as error:
                self._refuse(error)

    def _stack(self, chosen: slice) -> Iterator[VideoFrame]:
        path, time = self._paths[0], 0.0
        with Image.open(path) as image:
            for index in range(self._pages if chosen.stop is None else min(self._pages, chosen.stop)):
                try:
                    image.seek(index)
                    image.load()  # frames that are skipped, too: formats store differences and durations
                    if is_chosen(index, chosen):
                        yield VideoFrame(_to_bgr(image, path), index, time=time if self._timed else None)
                except _DAMAGED as error:
                    self._refuse(BadFrameError(f'{shown(path)}: frame {index} is damaged ({error}); restore the file'))
                time += _seconds(image) or 1 / self.fps

    def _refuse(self, error: BadFrameError) -> None:
        if not self._skip:
            raise error
        self._bad.append(error)

    def _check_names(self) -> None:
        """Refuse frames mixed with masks, and warn if there are images of several types."""
        if not self._paths:
            raise UserError(f'{self._text}: has no images; supported extensions: {" ".join(IMAGE_ENDINGS)}')
        floats = [path for path in self._paths if path.suffix.lower() in FLOAT_ENDINGS]
        if floats:
            raise UserError(f'{shown(floats[0])}: holds floating-point values, which have no fixed range; convert the '
                            'images to 8 or 16 bits')
        kinds = Counter(_kind(path) for path in self._paths)
        if len(kinds) == 1:
            return
        by_name = sorted(self._paths, key=lambda path: (str(path.parent), path.stem))
        for first, second in pairwise(by_name):
            if first.with_suffix('') == second.with_suffix(''):
                raise UserError(f'{self._text}: holds {shown(first.name)} and {shown(second.name)}, perhaps a frame '
                                f'and its mask; choose the frames with a glob: "{shown(first.parent)}/*{first.suffix}"')
        counts = ' and '.join(f'{count} *{kind}' for kind, count in kinds.most_common())
        print_log(f'{self._text}: takes {counts} as one video; to choose, give a glob such as '
                  f'"*{kinds.most_common()[0][0]}"', logger='current', level=logging.WARNING)


def _kind(path: Path) -> str:
    ending = path.suffix.lower()
    return _SAME_KIND.get(ending, ending)


def _pages(path: Path) -> tuple[int, float]:
    """Return the number of frames of an image file, and the duration of the first in seconds (0: unknown)."""
    if path.suffix.lower() not in STACK_ENDINGS:
        return 1, 0.0
    try:
        with Image.open(path) as image:
            pages = getattr(image, 'n_frames', 1)
            if pages > 1:
                image.load()
            return pages, _seconds(image) if pages > 1 else 0.0
    except _DAMAGED:  # the error is raised when the frame is read
        return 1, 0.0


def _seconds(image: Image.Image) -> float:
    return float(image.info.get('duration', 0)) / 1000


def _to_bgr(image: Image.Image, path: Path) -> np.ndarray:
    """Convert the current frame to (H, W, 3) uint8 BGR as OpenCV does: without alpha, the upper 8 of 16 bits."""
    if image.mode == 'F':
        raise UserError(f'{shown(path)}: holds floating-point values, which have no fixed range; convert it to 8 or 16 '
                        'bits')
    if image.mode.startswith('I'):  # 16 bits
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.ascontiguousarray(np.asarray(image.convert('RGB'))[..., ::-1])
