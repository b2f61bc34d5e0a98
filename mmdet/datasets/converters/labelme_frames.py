"""Convert labelme's JSON files, one for each frame, to YouTube-VIS annotations; called by labelme2yvis.py.

The files are ``IMAGES/<video>/<frame>.jpg`` and ``LABELS/<video>/<frame>.json``. As in labelme's own converters, shapes
of one label and one ``group_id`` belong to one object: in a frame they are its pieces, in several frames its track.
"""
from __future__ import annotations

import base64
import binascii
import io
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from mmdet.datasets.converters.image_folders import check_folders, image_size, images_by_stem, size_text
from mmdet.datasets.converters.shapes import ObjectMasks, crop_mask, ellipse, polygon_mask, rectangle
from mmdet.datasets.vis_file import VISFile
from mmdet.errors import UserError, counted, shortened
from mmdet.files import load_json
from mmdet.paths import visible_files, visible_folders

_WITHOUT_AREA = ('line', 'linestrip', 'point', 'points')
Key = tuple[str, int | str | None]  # label and group_id


def labelme_to_vis(images: Path, labels: Path, names: Sequence[str] | None = None) -> VISFile:
    """Convert a folder of folders of JSON files. Images without a JSON file are left out, as frames not yet labelled.

    A shape without ``group_id`` belongs to the object that is called by the label alone, of which a frame has one.

    Args:
        images: folder with a folder of images for each video.
        labels: folder with a folder of JSON files for each video; it may be the same.
        names: all category names in the order of their ids; None: the labels that occur, sorted.

    Raises:
        UserError: a file is damaged, has no image or another size than it, or several shapes have no ``group_id``.
    """
    check_folders(images, labels)
    folders = [folder for folder in visible_folders(labels) if visible_files(folder, ('.json',))]
    if not folders:
        raise UserError(f'{labels} has no folders with JSON files; they are expected at {labels}/<video>/<frame>.json')
    videos = [_read_video(images / folder.name, folder) for folder in tqdm(folders, unit=' videos')]
    found = sorted({label for *_, objects, _ in videos for label, _ in objects.tracks()})
    chosen = found if names is None else list(names)
    if unknown := sorted(set(found) - set(chosen)):
        raise UserError(f'{labels}: label {unknown[0]!r} is not among the categories ({shortened(chosen)}); add it')
    if not chosen:
        raise UserError(f'{labels} holds no object with an area; check the folder')
    file = VISFile([{'id': number, 'name': name} for number, name in enumerate(chosen, 1)], 'converted from labelme')
    kinds: Counter[str] = Counter()
    left_out = 0
    for frames, unlabelled, size, objects, shapes in videos:
        file.add_video([frame.relative_to(images).as_posix() for frame in frames], *size)
        for (label, _), rles in objects.tracks().items():
            file.add_track(chosen.index(label) + 1, rles)
        kinds += shapes
        left_out += unlabelled
    if left_out:
        file.notes.append(f'left out: {counted(left_out, "image")} without a JSON file; save a file for each frame '
                          'without objects')
    file.rectangles = kinds.pop('rectangle', 0)
    if kinds:
        counts = ', '.join(counted(count, kind) for kind, count in sorted(kinds.items()))
        file.notes.append(f'shapes without area are left out: {counts}')
    return file


def _read_video(image_folder: Path, label_folder: Path,
                ) -> tuple[list[Path], int, tuple[int, int], ObjectMasks[Key], Counter[str]]:
    """Return the labelled images, the number of others, the size, the objects, and counts of shapes by kind: of
    rectangles, and of shapes that are left out.
    """
    images = images_by_stem(image_folder)
    files = visible_files(label_folder, ('.json',))
    size: tuple[int, int] | None = None
    objects, kinds = ObjectMasks[Key](len(files)), Counter[str]()
    for frame, path in enumerate(files):
        if path.stem not in images:
            raise UserError(f'{path} has no image of the same name in {image_folder}; restore it or remove the file')
        content = load_json(path)
        shapes = content.get('shapes') if isinstance(content, dict) else None
        if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
            raise UserError(f'{path}: is not a file of labelme, which has a list of objects "shapes"; check the folder')
        here = image_size(images[path.stem])
        stated = content.get('imageHeight'), content.get('imageWidth')
        if None not in stated and stated != here:
            raise UserError(f'{path}: states {stated[1]}x{stated[0]} pixels, its image {images[path.stem].name} has '
                            f'{size_text(here)}; they must agree')
        size = size or here
        if here != size:
            raise UserError(f'{images[path.stem]} has {size_text(here)} pixels, the video\'s first frame '
                            f'{size_text(size)}; a video needs one size')
        _add_shapes(objects, frame, shapes, size, path, kinds)
    return [images[path.stem] for path in files], len(images) - len(files), size or (0, 0), objects, kinds


def _add_shapes(objects: ObjectMasks[Key], frame: int, shapes: list[dict], size: tuple[int, int], path: Path,
                kinds: Counter[str]) -> None:
    """Add the shapes of a frame; count rectangles, and shapes without area, which are left out, in ``kinds``."""
    unnumbered: set[str] = set()
    for number, shape in enumerate(shapes):
        where = f'{path}: shapes[{number}]'
        kind, label, group = shape.get('shape_type') or 'polygon', shape.get('label'), shape.get('group_id')
        if not isinstance(label, str) or not label:
            raise UserError(f'{where} has the label {str(label)[:40]!r}; give it the name of its category')
        if not isinstance(group, int | str | None) or isinstance(group, bool):
            raise UserError(f'{where}: group_id {str(group)[:40]} is neither a number nor a text; correct it')
        if kind in _WITHOUT_AREA:
            kinds[kind] += 1
            continue
        if group is None and label in unnumbered:
            raise UserError(f'{where} is a second {label!r} without group_id in the frame; give the shapes of each '
                            'object a group_id of its own, the same in all frames')
        if group is None:
            unnumbered.add(label)
        kinds['rectangle'] += kind == 'rectangle'
        objects.add((label, group), frame, _mask(shape, kind, *size, where))


def _mask(shape: dict, kind: str, height: int, width: int, where: str) -> dict:
    points = _points(shape.get('points'), where)
    if kind == 'mask':
        return crop_mask(_painted(shape.get('mask'), where), int(points[0][0]), int(points[0][1]), height, width, where)
    if kind == 'circle' and len(points) == 2:
        radius = math.dist(*points)
        return polygon_mask(ellipse(points[0][0], points[0][1], radius, radius), height, width, where)
    if kind == 'rectangle' and len(points) == 2:
        return polygon_mask(rectangle(*points[0], *points[1]), height, width, where)
    if kind not in ('polygon', 'rectangle', 'rotation') or len(points) < 3:
        raise UserError(f'{where}: a {kind} of {counted(len(points), "point")} is not known; draw polygons, '
                        'rectangles, circles or masks')
    return polygon_mask([value for point in points for value in point], height, width, where)


def _points(points: Any, where: str) -> list[list[float]]:
    if not isinstance(points, list) or not points or not all(
            isinstance(point, list) and len(point) == 2 and all(type(value) in (int, float) and math.isfinite(value)
                                                                for value in point) for point in points):
        raise UserError(f'{where}: points {str(points)[:60]} must be a list of [x, y] in pixels')
    return points


def _painted(text: Any, where: str) -> np.ndarray:
    """Decode a mask (h, w) bool, which is stored as a PNG file in base64."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as image:
            return np.array(image.convert('L')) > 0
    except (TypeError, ValueError, binascii.Error, OSError, SyntaxError, Image.DecompressionBombError):
        raise UserError(f'{where}: the mask is not a PNG file in base64; save the file again') from None
