"""Find image files of a data set that are missing, damaged or of the wrong size; called by tools/check_dataset.py."""
from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

from mmdet.datasets.layout import explain_missing
from mmdet.datasets.transforms.frame_loading import BadFrameError, read_frame
from mmdet.structures.vis_json import Video

# messages of libjpeg and libtiff on standard error about a damaged image that OpenCV returns without an error
_DAMAGE = re.compile(r'Corrupt JPEG data.*|Premature end of JPEG.*|Invalid JPEG.*|TIFF_Error .*')


@dataclass(frozen=True)
class ImageFault:
    """A fault of one image file.

    Attributes:
        kind: kind of the fault, by which :func:`summarise` groups the images.
        name: file name in the annotation file.
        text: description in one line, with the path of the file.
    """

    kind: str
    name: str
    text: str


class DecoderLog:
    """Messages that image decoders write to standard error.

    Decoders raise no error where the data inside a JPEG file are damaged: they return an image with grey or shifted
    rows and write a line to file descriptor 2. :meth:`start` redirects that descriptor, and thus everything that the
    process writes to standard error, to a temporary file. Use it in worker processes only.
    """

    _file: IO[bytes] | None = None

    @classmethod
    def start(cls) -> None:
        """Redirect standard error of this process to a temporary file."""
        cls._file = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the process runs
        os.dup2(cls._file.fileno(), 2)

    @classmethod
    def damage(cls) -> str | None:
        """Return the first message about damage since the last call; None if there is none or without :meth:`start`."""
        if cls._file is None:
            return None
        cls._file.seek(0)
        found = _DAMAGE.search(cls._file.read().decode(errors='replace'))
        cls._file.seek(0)
        cls._file.truncate()
        return found[0].strip() if found else None


def check_images(video: Video, folder: Path, decode: bool) -> list[ImageFault]:
    """Find the faults of a video's image files.

    Args:
        video: entry of the video in the annotation file.
        folder: image folder, to which ``file_names`` are relative.
        decode: decode all pixels, which finds truncated files and, after :meth:`DecoderLog.start`, files whose data are
            damaged inside; otherwise read only the sizes in the headers of the files.
    """
    faults = []
    for name in video.file_names:
        path = folder / name
        if not path.is_file():
            faults.append(ImageFault('missing', name, f'the image {path} is missing'))
            continue
        try:
            if decode:
                read_frame(str(path), video.height, video.width)
                if damage := DecoderLog.damage():
                    raise BadFrameError(f'the image {path} is damaged inside ({damage}); restore the file')
            else:
                _check_header(path, video)
        except BadFrameError as error:
            size = re.search(r'has (\d+x\d+) pixels', str(error))
            faults.append(ImageFault(size[0] if size else 'damaged', name, str(error)))
    return faults


def summarise(videos: Sequence[Video], faults: Sequence[list[ImageFault]], folder: Path) -> Iterator[str]:
    """Yield one line per fault; a fault that all images of a video, or of all videos, share is reported once.

    Args:
        videos: videos that were checked.
        faults: faults of each video.
        folder: image folder, to which ``file_names`` are relative.
    """
    def described(fault: ImageFault) -> str:
        return fault.text + (f'; {explain_missing(folder, fault.name)}' if fault.kind == 'missing' else '')

    total = sum(video.length for video in videos)
    kinds = {fault.kind for found in faults for fault in found}
    if total > 1 and len(kinds) == 1 and sum(map(len, faults)) == total:
        yield f'all {total} images have the same fault: {described(faults[0][0])}'
        return
    for video, found in zip(videos, faults):
        if video.length > 1 and len(found) == video.length and len({fault.kind for fault in found}) == 1:
            yield f'video {video.id}: all {video.length} images have the same fault: {described(found[0])}'
        else:
            yield from (f'video {video.id}: {fault.text}' for fault in found)


def _check_header(path: Path, video: Video) -> None:
    size = video.width, video.height
    try:
        with Image.open(path) as image:
            found = image.size
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        raise BadFrameError(f'the image {path} is damaged or not an image; restore the file') from None
    if found != size and found != size[::-1]:  # the loader applies an EXIF orientation
        raise BadFrameError(f'the image {path} has {found[0]}x{found[1]} pixels, the annotation file says '
                            f'{size[0]}x{size[1]}; use the images that belong to the annotations')
