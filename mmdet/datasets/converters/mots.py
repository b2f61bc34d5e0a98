"""Convert annotations of MOTS (KITTI MOTS, MOTSChallenge) to YouTube-VIS annotations; called by mots2yvis.py.

An object has the number ``class * 1000 + id``; 10000 marks regions to ignore. PNG masks of 16 bits hold these numbers
(``MASKS/<video>/<frame>.png``); a text file holds a line for each object in each frame: ``frame number class height
width RLE`` (``MASKS/<video>.txt``, or ``MASKS/<video>/gt/gt.txt``).
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mmdet.datasets.converters.image_folders import check_folders, image_size, images_by_stem, size_text
from mmdet.datasets.converters.mask_folders import MaskVideo
from mmdet.datasets.converters.shapes import ObjectMasks
from mmdet.errors import UserError
from mmdet.files import load_text
from mmdet.paths import natural_key, visible_files, visible_folders
from mmdet.structures.masks import parse_segmentations

IGNORED = 10000
PER_CLASS = 1000
CLASSES = {1: 'car', 2: 'pedestrian'}
_IMAGES_INSIDE = 'img1'  # MOTSChallenge: <video>/img1/<frame>.jpg
_COLUMNS = 6


def find_mots(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Return the image folder and the mask folder or text file of each video, in natural order.

    Raises:
        UserError: a folder is missing, or there are no annotations.
    """
    check_folders(images, masks)
    found = {path.stem: path for path in visible_files(masks, ('.txt',))}
    for folder in visible_folders(masks):
        texts = [path for path in (folder / 'gt' / 'gt.txt', folder / 'gt.txt') if path.is_file()]
        if texts or visible_files(folder, ('.png',)):
            if folder.name in found:
                raise UserError(f'{masks} holds {folder.name}.txt and {folder.name}/; keep one of the two')
            found[folder.name] = texts[0] if texts else folder
    if not found:
        raise UserError(f'{masks} has no annotations of MOTS; they are expected at {masks}/<video>/<frame>.png or '
                        f'{masks}/<video>.txt')
    return [(_image_folder(images / name), found[name]) for name in sorted(found, key=natural_key)]


def _image_folder(folder: Path) -> Path:
    inside = folder / _IMAGES_INSIDE
    if not folder.is_dir():
        raise UserError(f'{folder} does not exist, but there are annotations of that name; images and annotations of a '
                        'video need the same name')
    return inside if inside.is_dir() else folder


def mots_category(names: Mapping[int, str]) -> Callable[[str, int], str]:
    """Return a function for :func:`~mmdet.datasets.converters.mask_folders.build_file`: the category of a number."""
    def category_of(video: str, number: int) -> str:
        name = names.get(number // PER_CLASS)
        if name is None:
            raise UserError(f'{video}: object {number} is of class {number // PER_CLASS}, which has no name (there are '
                            f'{", ".join(f"{key}={value}" for key, value in names.items())}); name it with --classes')
        return name
    return category_of


def read_text_video(image_folder: Path, path: Path, images: Path) -> MaskVideo:
    """Read the text file of one video, whose frames are all images of the folder.

    Args:
        image_folder: folder of the images, whose names are the numbers of the frames.
        path: text file.
        images: folder to which the file names are relative.

    Raises:
        UserError: a line is damaged or does not belong to the images.
    """
    files = list(images_by_stem(image_folder).values())
    if not files:
        raise UserError(f'{image_folder}: has no images; give the folder of the images of {path}')
    frame_of = {int(file.stem): frame for frame, file in enumerate(files) if file.stem.isdecimal()}
    height, width = image_size(files[0])
    objects = ObjectMasks[int](len(files))
    for number, line in enumerate(load_text(path).splitlines(), 1):
        if line.strip():
            _add_line(objects, line.split(), frame_of, (height, width), f'{path}, line {number}')
    names = [file.relative_to(images) for file in files]
    return MaskVideo(names[0].parts[0], [name.as_posix() for name in names], height, width,
                     dict(sorted(objects.tracks().items())), 0)


def _add_line(objects: ObjectMasks[int], fields: Sequence[str], frame_of: Mapping[int, int], size: tuple[int, int],
              where: str) -> None:
    if len(fields) != _COLUMNS or not all(field.isdecimal() for field in fields[:-1]):
        raise UserError(f'{where}: {" ".join(fields)[:60]!r} is not "frame number class height width RLE"; is it a '
                        'file of MOTS?')
    frame, number, kind, height, width = map(int, fields[:-1])
    if frame not in frame_of:
        raise UserError(f'{where}: frame {frame} has no image of that number; restore it')
    if (height, width) != size:
        raise UserError(f'{where}: the mask has {size_text((height, width))} pixels, the images {size_text(size)}; '
                        'give the images in their original size')
    if number == IGNORED:
        return
    if number // PER_CLASS != kind:
        raise UserError(f'{where}: object {number} is not of class {kind}: numbers are class * {PER_CLASS} + id; '
                        'correct one of the two')
    (rle,), _ = parse_segmentations([{'size': [height, width], 'counts': fields[-1]}], height, width, where)
    if rle is not None:
        objects.add(number, frame_of[frame], rle)
