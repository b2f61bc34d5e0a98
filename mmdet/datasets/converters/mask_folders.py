"""Convert folders of index masks (DAVIS, YouTube-VOS, MOSE, your own) to YouTube-VIS annotations; for masks2yvis.py.

The files are ``IMAGES/<video>/<frame>.jpg`` and ``MASKS/<video>/<frame>.png``. A pixel of an index mask is 0 in the
background, elsewhere the number of the object, which is the same in every frame of the video.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmdet.datasets.converters.image_folders import check_folders, images_by_stem, open_image, size_text
from mmdet.datasets.vis_file import VISFile
from mmdet.errors import UserError, counted
from mmdet.files import load_json
from mmdet.paths import visible_files, visible_folders
from mmdet.structures.masks import encode_index_mask

VOID = 255  # the number that data sets give to pixels of uncertain class
_INDEX_MODES = ('1', 'L', 'P', 'I', 'I;16')  # Pillow's names of images with one number a pixel
_ORIENTATION_TAG, _UPRIGHT, _QUARTER_TURNS = 0x0112, 1, (5, 6, 7, 8)  # quarter turns swap width and height
# a frame with more objects than this is checked for interpolated numbers immediately, not at the end of the video
_MANY_OBJECTS = 32
_MOST_SLIVERS = 2  # so many slivers are accepted even if they are most of the objects


@dataclass(frozen=True)
class MaskVideo:
    """The frames of a video that have a mask, in the natural order of their names.

    Attributes:
        name: name of the folder of the video.
        file_names: image files, relative to the image folder.
        height, width: size in pixels.
        rles: masks of each object in each frame by object number, None where it is not visible.
        without_mask: number of images left out because they have no mask.
        warnings: probable mistakes, one line each.
    """

    name: str
    file_names: list[str]
    height: int
    width: int
    rles: dict[int, list[dict | None]]
    without_mask: int
    warnings: list[str] = field(default_factory=list)


def find_videos(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Return the image folder and the mask folder of each video, in natural order; hidden folders are skipped.

    Raises:
        UserError: a folder is missing, or there are no masks.
    """
    check_folders(images, masks)
    found = [folder for folder in visible_folders(masks) if visible_files(folder, ('.png',))]
    if not found:
        raise UserError(f'{masks} has no folders with PNG files; masks are expected at {masks}/<video>/<frame>.png')
    for folder in found:
        if not (images / folder.name).is_dir():
            raise UserError(f'{images / folder.name} does not exist, but there are masks in {folder}; '
                            'images and masks of a video need folders of the same name')
    return [(images / folder.name, folder) for folder in found]


def read_video(folders: tuple[Path, Path], ignore: int | None = None, root: Path | None = None) -> MaskVideo:
    """Read the masks of one video.

    Args:
        folders: image folder and mask folder.
        ignore: number in the masks that does not mark an object.
        root: folder to which the file names are relative, and whose folders are the videos; None: the parent of the
            image folder.

    Raises:
        UserError: a mask has no image, is not an index mask, has another size than its image or its video, or has
            numbers that come from interpolation.
    """
    image_folder, mask_folder = folders
    folder = image_folder.relative_to(root or image_folder.parent)
    images = images_by_stem(image_folder)
    masks = visible_files(mask_folder, ('.png',))
    size: tuple[int, int] | None = None
    rles: dict[int, list[dict | None]] = {}
    sliver_frames: Counter[int] = Counter()
    turned = 0
    for frame, path in enumerate(masks):
        if path.stem not in images:
            raise UserError(f'{path} has no image of the same name in the image folder; restore it or remove the mask')
        index, is_turned = _read_index(path, images[path.stem])
        turned += is_turned
        size = size or index.shape
        if index.shape != size:
            raise UserError(f'{images[path.stem]} has {size_text(index.shape)} pixels, the video\'s first frame '
                            f'{size_text(size)}; a video needs one size')
        if ignore is not None:
            index[index == ignore] = 0
        shown = encode_index_mask(index)
        slivers = _slivers(index) if len(shown) > 1 else set()
        if len(shown) > _MANY_OBJECTS:
            _check_interpolation(path, slivers, len(shown))
        sliver_frames.update(slivers)
        for number, rle in shown.items():
            rles.setdefault(number, [None] * len(masks))[frame] = rle
    always = {number for number, count in sliver_frames.items()
              if count == len(masks) - rles[number].count(None)}
    _check_interpolation(mask_folder, always - {VOID}, len(rles))
    height, width = size or (0, 0)
    names = [(folder / images[path.stem].name).as_posix() for path in masks]
    return MaskVideo(folder.parts[0], names, height, width, dict(sorted(rles.items())), len(images) - len(masks),
                     _warnings(mask_folder, rles, always - {VOID}, turned))


def build_file(videos: Iterable[MaskVideo], category_of: Callable[[str, int], str],
               names: Sequence[str] | None = None) -> VISFile:
    """Build the YouTube-VIS file of these videos.

    Args:
        videos: see :func:`read_video`.
        category_of: function that returns the category name for a video name and an object number.
        names: all category names in the order of their ids; None: those that occur, sorted.

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
    if not found:
        raise UserError('the masks hold no object: every pixel is background; check the mask folder')
    file = VISFile([{'id': index, 'name': name} for index, name in enumerate(names, 1)], 'converted from index masks')
    for video in videos:
        file.add_video(video.file_names, video.height, video.width)
        for number, rles in video.rles.items():
            file.add_track(names.index(category_of(video.name, number)) + 1, rles)
        file.warnings += video.warnings
    if without_mask := sum(video.without_mask for video in videos):
        file.notes.append(f'left out: {counted(without_mask, "image")} without a mask; save a mask that is all 0 for a '
                          'frame without objects')
    return file


def categories_from_meta(path: Path) -> Callable[[str, int], str]:
    """Return a function for :func:`build_file` that looks up categories in files like YouTube-VOS's meta.json.

    The category of an object is ``videos.<video>.objects.<number>.category``.

    Args:
        path: the file, or a folder with a file ``<video>/meta.json`` for each video.

    Raises:
        UserError: a file cannot be read or is not JSON, or there is none.
    """
    files = sorted(path.glob('*/meta.json')) if path.is_dir() else [path]
    if not files:
        raise UserError(f'--meta {path}: the folder has no <video>/meta.json; give the file with the categories')
    metas = [load_json(file) for file in files]

    def category_of(video: str, number: int) -> str:
        category = None
        for meta in metas:
            with suppress(KeyError, TypeError):
                category = meta['videos'][video]['objects'][str(number)]['category']
        if not isinstance(category, str):
            raise UserError(f'{path} has no videos.{video}.objects.{number}.category, but the masks show that object; '
                            f'add it, or leave the number out with --ignore {number}')
        return category
    return category_of


def _read_index(path: Path, image_path: Path) -> tuple[np.ndarray, bool]:
    """Read an index mask, which must have the size of its image, before or after applying the EXIF orientation.

    Returns:
        The mask, (h, w) integers, and whether the loader will ignore an EXIF orientation of the image: it applies the
        orientation only where the stored size differs from that of the mask.
    """
    with open_image(path) as mask, open_image(image_path) as image:
        if mask.mode not in _INDEX_MODES:
            raise UserError(f'{path} has {len(mask.getbands())} numbers a pixel (mode {mask.mode}); a mask has one: '
                            "the object's number. Save it as a grey or palette PNG")
        orientation = image.getexif().get(_ORIENTATION_TAG, _UPRIGHT)
        if mask.size != image.size and (mask.size != image.size[::-1] or orientation not in _QUARTER_TURNS):
            raise UserError(f'{path} has {size_text(mask.size[::-1])} pixels, its image {image_path.name} '
                            f'{size_text(image.size[::-1])}; they must agree')
        try:
            index = np.array(mask)
        except (OSError, SyntaxError):  # Pillow's errors for truncated PNG files
            raise UserError(f'{path} is damaged or cut off; restore the file') from None
        ignored = orientation != _UPRIGHT and mask.size == image.size
    return index.astype(np.uint8) if index.dtype == bool else index, ignored


def _slivers(index: np.ndarray) -> set[int]:
    """Find the objects of an index mask (h, w) whose numbers are probably interpolated between two others.

    Such an object is less than 3 pixels wide everywhere, and at least half of its pixels lie between a smaller and a
    larger number, horizontally or vertically.
    """
    height, width = index.shape
    padded = np.pad(index, 1, mode='edge')
    inside, between = np.ones(index.shape, bool), np.zeros(index.shape, bool)
    for dy, dx in ((0, 0), (0, 1), (0, 2), (1, 0)):
        first = padded[dy:dy + height, dx:dx + width]
        second = padded[2 - dy:2 - dy + height, 2 - dx:2 - dx + width]
        inside &= (first == index) & (second == index)
        if dy == 1 or dx == 1:
            between |= ((first < index) & (index < second)) | ((second < index) & (index < first))
    wide = np.unique(index[inside]).tolist()
    numbers, pixels = np.unique(index[index > 0], return_counts=True)
    lying, lying_pixels = np.unique(index[between], return_counts=True)
    count_between = dict(zip(lying.tolist(), lying_pixels.tolist()))
    return {number for number, count in zip(numbers.tolist(), pixels.tolist())
            if 2 * count_between.get(number, 0) >= count} - set(wide)


def _check_interpolation(path: Path, slivers: set[int], objects: int) -> None:
    """Raise UserError if most objects are slivers."""
    if len(slivers) > max(_MOST_SLIVERS, objects / 2):
        raise UserError(f'{path}: {len(slivers)} of {objects} numbers are thin lines between two others, such as '
                        f'{min(slivers)}: the masks were resized or rotated with interpolation, which creates wrong '
                        'numbers; make them again with nearest-neighbour interpolation')


def _warnings(folder: Path, rles: dict[int, list[dict | None]], slivers: set[int], turned: int) -> list[str]:
    warnings = []
    if turned:
        warnings.append(f'{folder}: {counted(turned, "image")} with an EXIF orientation and the size of the mask, so '
                        'that the loader does not rotate the image; if the masks were drawn on the rotated images, '
                        'save the images upright')
    if VOID in rles and len(rles) > 1:
        warnings.append(f'{folder}: the number {VOID} became an object; if it marks pixels without class (void), '
                        f'leave it out with --ignore {VOID}')
    if slivers:
        warnings.append(f'{folder}: {len(slivers)} of {len(rles)} objects (number {min(slivers)}) are thin lines '
                        'between two others; if the masks were resized with interpolation, make them again with '
                        'nearest-neighbour interpolation')
    return warnings
