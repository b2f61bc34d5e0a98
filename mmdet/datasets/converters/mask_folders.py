"""Folders of index masks (DAVIS, YouTube-VOS, MOSE, your own) → YouTube-VIS annotations; for masks2yvis.py.

``IMAGES/<video>/<frame>.jpg`` and ``MASKS/<video>/<frame>.png``: a mask has one number a pixel, 0 for the background,
elsewhere the object's number, which is the same in every frame of the video.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from mmdet.datasets.vis_file import VISFile
from mmdet.errors import UserError
from mmdet.structures.masks import encode_masks

_IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
_INDEX_MODES = ('1', 'L', 'P', 'I', 'I;16')  # Pillow's names of images with one number a pixel


@dataclass(frozen=True)
class MaskVideo:
    """One video's frames that have a mask, in order of their names.

    Attributes:
        name: of its folder.
        file_names: image files below the image folder.
        height, width: pixels.
        rles: per object number its mask in each frame, None where it is not seen.
        without_mask: number of images left out because they have no mask.
    """

    name: str
    file_names: list[str]
    height: int
    width: int
    rles: dict[int, list[dict | None]]
    without_mask: int


def find_videos(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Image folder and mask folder of each video, by name; raises UserError."""
    for folder in (images, masks):
        if not folder.is_dir():
            raise UserError(f'{folder} is no folder; give the folders that hold one folder for each video')
    found = [folder for folder in sorted(masks.iterdir()) if folder.is_dir() and any(folder.glob('*.png'))]
    if not found:
        raise UserError(f'{masks} has no folders with PNG files; masks are expected at {masks}/<video>/<frame>.png')
    for folder in found:
        if not (images / folder.name).is_dir():
            raise UserError(f'{images / folder.name} does not exist, but there are masks in {folder}; '
                            'images and masks of a video need folders of the same name')
    return [(images / folder.name, folder) for folder in found]


def read_video(folders: tuple[Path, Path], ignore: int | None = None) -> MaskVideo:
    """Reads one video's masks.

    Args:
        folders: image folder and mask folder.
        ignore: a number in the masks that is no object.

    Raises:
        UserError: a mask without image, not an index mask, or of another size than its image or its video.
    """
    image_folder, mask_folder = folders
    images = {path.stem: path for path in sorted(image_folder.iterdir()) if path.suffix.lower() in _IMAGE_SUFFIXES}
    masks = sorted(mask_folder.glob('*.png'))
    size = _size(images, masks[0])
    rles: dict[int, list[dict | None]] = {}
    for frame, path in enumerate(masks):
        if _size(images, path) != size:
            raise UserError(f'{images[path.stem]} has {_pixels(_size(images, path))} pixels, the video\'s first frame '
                            f'{_pixels(size)}; a video needs one size')
        index = _read_index(path, size)
        numbers = [number for number in np.unique(index).tolist() if number not in (0, ignore)]
        shown = encode_masks(index[None] == np.array(numbers, index.dtype)[:, None, None]) if numbers else []
        for number, rle in zip(numbers, shown):
            rles.setdefault(number, [None] * len(masks))[frame] = rle
    return MaskVideo(image_folder.name, [f'{image_folder.name}/{images[path.stem].name}' for path in masks], size[1],
                     size[0], dict(sorted(rles.items())), len(images) - len(masks))


def build_file(videos: Iterable[MaskVideo], category_of: Callable[[str, int], str],
               names: Sequence[str] | None = None) -> VISFile:
    """The YouTube-VIS file of these videos.

    Args:
        videos: see :func:`read_video`.
        category_of: name of the category of a video's object.
        names: all categories, in the order of their ids; None: those that occur, by name.

    Raises:
        UserError: an object's category is not among ``names``.
    """
    videos = list(videos)
    found = {category_of(video.name, number): (video.name, number) for video in videos for number in video.rles}
    names = sorted(found) if names is None else list(names)
    for name, (folder, number) in found.items():
        if name not in names:
            raise UserError(f'object {number} of video {folder} has the category {name!r}, which the list of '
                            f'categories lacks ({", ".join(names[:20])}); add it')
    if not names:
        raise UserError('the masks hold no object: every pixel is background; check the mask folder')
    file = VISFile([{'id': index, 'name': name} for index, name in enumerate(names, 1)], 'converted from index masks')
    for video in videos:
        file.add_video(video.file_names, video.height, video.width)
        for number, rles in video.rles.items():
            file.add_track(names.index(category_of(video.name, number)) + 1, rles)
    return file


def categories_from_meta(meta: Mapping, path: str) -> Callable[[str, int], str]:
    """Category of a video's object, from YouTube-VOS's meta.json: ``videos.<video>.objects.<number>.category``."""
    def category_of(video: str, number: int) -> str:
        try:
            category = meta['videos'][video]['objects'][str(number)]['category']
        except (KeyError, TypeError):
            category = None
        if not isinstance(category, str):
            raise UserError(f'{path} has no videos.{video}.objects.{number}.category, but the masks show that object; '
                            'add it')
        return category
    return category_of


def _size(images: dict[str, Path], mask: Path) -> tuple[int, int]:
    """Width and height of a mask's image, from the file's header."""
    if mask.stem not in images:
        raise UserError(f'{mask} has no image of the same name in the image folder; restore it or remove the mask')
    return _open(images[mask.stem]).size


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except (OSError, UnidentifiedImageError):
        raise UserError(f'{path} is no readable image; restore the file') from None


def _read_index(path: Path, size: tuple[int, int]) -> np.ndarray:
    """An index mask, (h, w) of integers."""
    image = _open(path)
    if image.mode not in _INDEX_MODES:
        raise UserError(f'{path} has {len(image.getbands())} numbers a pixel (mode {image.mode}); a mask has one: the '
                        "object's number. Save it as a grey or palette PNG")
    if image.size != size:
        raise UserError(f'{path} has {_pixels(image.size)} pixels, its image {_pixels(size)}; they must agree')
    try:
        return np.asarray(image).astype(np.int32)
    except (OSError, SyntaxError):  # Pillow's errors for cut-off PNG files
        raise UserError(f'{path} is damaged or cut off; restore the file') from None


def _pixels(size: tuple[int, int]) -> str:
    return f'{size[0]}x{size[1]}'
