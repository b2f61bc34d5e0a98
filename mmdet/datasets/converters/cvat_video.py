"""Convert CVAT's annotations of videos ("CVAT for video 1.1") to YouTube-VIS annotations; called by cvat2yvis.py.

A ``<track>`` is an object: keyframes with a box, polygon, ellipse or mask, between which the shape is interpolated.
With ``outside="1"`` the object is not visible until the next keyframe. Tracks of one label and one ``group_id`` are the
pieces of an object.
"""
from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from tqdm import tqdm

from mmdet.datasets.converters.image_folders import image_size, images_by_stem, size_text
from mmdet.datasets.converters.shapes import ObjectMasks, crop_mask, ellipse, polygon_mask, rectangle
from mmdet.datasets.vis_file import VISFile
from mmdet.errors import UserError, counted, shortened
from mmdet.structures.masks import MAX_PIXELS

_BOX, _ELLIPSE = ('xtl', 'ytl', 'xbr', 'ybr'), ('cx', 'cy', 'rx', 'ry')
_SHAPES = ('box', 'polygon', 'ellipse', 'mask')


@dataclass(frozen=True)
class Keyframe:
    """The shape of a track in a frame.

    Attributes:
        frame: number of the frame in the file.
        outside: whether the object is not visible from here on.
        kind: ``'box'``, ``'polygon'``, ``'ellipse'`` or ``'mask'``.
        values: coordinates in pixels and, of boxes and ellipses, the rotation in degrees; of a mask left and top.
        crop: (h, w) bool of a mask.
    """

    frame: int
    outside: bool
    kind: str
    values: tuple[float, ...]
    crop: np.ndarray | None = None

    def towards(self, following: Keyframe, frame: int) -> Keyframe:
        """Return the shape in a frame between this keyframe and the following one.

        Coordinates are interpolated linearly; masks, and polygons of which the number of points changes, are kept.
        """
        if self.kind == 'mask' or (self.kind, len(self.values)) != (following.kind, len(following.values)):
            return self
        share = (frame - self.frame) / (following.frame - self.frame)
        values = tuple(first + share * (second - first) for first, second in zip(self.values, following.values))
        return Keyframe(frame, self.outside, self.kind, values)

    def rle(self, height: int, width: int, where: str) -> dict:
        """Return the compressed RLE of the shape in an image of this size in pixels."""
        if self.crop is not None:
            return crop_mask(self.crop, int(self.values[0]), int(self.values[1]), height, width, where)
        if self.kind == 'polygon':
            return polygon_mask(self.values, height, width, where)
        return polygon_mask((rectangle if self.kind == 'box' else ellipse)(*self.values), height, width, where)


@dataclass(frozen=True)
class CvatTask:
    """A video of the file: a task, or the part of it that a job exports.

    Attributes:
        ident: id, to which tracks of an exported project refer; None: the file has one video.
        name: name of the task.
        length: number of frames; None: not stated.
        start, step: frame numbers in the file are start, start + step, ...
    """

    ident: str | None
    name: str
    length: int | None
    start: int
    step: int


def cvat_to_vis(annotations: Sequence[Path], images: Path, names: Sequence[str] | None = None) -> VISFile:
    """Convert XML files.

    Args:
        annotations: XML files; each holds a task, a job, or the tasks of a project.
        images: folder with a folder of images for each video, named as the XML file or as the task; or, for a single
            video, the folder of its images.
        names: all category names in the order of their ids; None: the labels of the files, in their order.

    Raises:
        UserError: a file is damaged or of another format, images are missing or too many, or a label is unknown.
    """
    roots = [(path, _root(path)) for path in annotations]
    if names is None:
        names = list(dict.fromkeys(label for _, root in roots for label in _labels(root)))
    file = VISFile([{'id': number, 'name': name} for number, name in enumerate(names, 1)], 'converted from CVAT')
    found = [(path, root, task) for path, root in roots for task in _tasks(path, root)]
    for path, root, task in tqdm(found, unit=' videos'):
        _add_video(file, path, root, task, _image_folder(images, path, task, len(found) == 1), images, names)
    if not file.content['annotations']:
        raise UserError(f'{annotations[0]}: has no track with a visible box, polygon, ellipse or mask; annotate '
                        'objects as tracks in CVAT')
    return file


def _root(path: Path) -> ElementTree.Element:
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror or error}); check the path') from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f'{path}: is not XML ({error}); export "CVAT for video 1.1" again') from error
    if root.tag != 'annotations' or (root.find('image') is not None and root.find('track') is None):
        kind = '"CVAT for images", which has no tracks' if root.find('image') is not None else f'<{root.tag}>'
        raise UserError(f'{path}: holds {kind}, not <track> elements; export "CVAT for video 1.1"')
    return root


def _labels(root: ElementTree.Element) -> list[str]:
    stated = [name.text or '' for meta in root.iter('meta') for label in meta.iter('label')
              if (name := label.find('name')) is not None]
    return stated or list(dict.fromkeys(track.get('label', '') for track in root.iter('track')))


def _tasks(path: Path, root: ElementTree.Element) -> Iterator[CvatTask]:
    meta = root.find('meta')
    meta = ElementTree.Element('meta') if meta is None else meta
    several = meta.findall('project/tasks/task')
    for task in several or [next((part for part in meta if part.tag in ('task', 'job')), meta)]:
        where = f'{path}: task {task.findtext("name") or task.findtext("id") or ""}'.rstrip()
        size, start = task.findtext('size'), task.findtext('start_frame') or '0'
        step = (task.findtext('frame_filter') or '').strip().removeprefix('step=') or '1'
        if not all(text.isdecimal() for text in (size or '0', start, step)) or not int(step):
            raise UserError(f'{where}: size {size}, start_frame {start} and frame_filter step={step} must be whole '
                            'numbers; export the file again')
        begin = int(start) + int(step) * _first_of_job(task)
        yield CvatTask(task.findtext('id') if several else None, task.findtext('name') or '',
                       int(size) if size else None, begin, int(step))


def _first_of_job(task: ElementTree.Element) -> int:
    """Return the index in its task of the first frame of a job; 0 for tasks."""
    first = task.findtext('segments/segment/start') if task.tag == 'job' else None
    return int(first) if first and first.isdecimal() else 0


def _image_folder(images: Path, path: Path, task: CvatTask, single: bool) -> Path:
    candidates = [images / task.name, images / Path(task.name).stem] if task.name else []  # the name may end in .mp4
    if task.ident is None:
        candidates.insert(0, images / path.stem)
    for folder in candidates:
        if folder.is_dir():
            return folder
    if single and images.is_dir():
        return images
    raise UserError(f'{path}: its images are missing: {" or ".join(map(str, candidates)) or images} is not a folder; '
                    'give the folder of the images, in a folder named as the XML file or as the task')


def _add_video(file: VISFile, path: Path, root: ElementTree.Element, task: CvatTask, folder: Path, images: Path,
               names: Sequence[str]) -> None:
    frames = list(images_by_stem(folder).values())
    if not frames:
        inside = f', nor a folder {Path(task.name or path.name).stem!r}' if folder == images else ''
        raise UserError(f'{folder}: has no images{inside}; give the folder of the images of {path}')
    if task.length not in (None, len(frames)):
        raise UserError(f'{path}: the video has {counted(task.length, "frame")}, {folder} '
                        f'{counted(len(frames), "image")}; give the images of all frames, and no others')
    height, width = image_size(frames[0])
    for stated in root.iterfind('meta//original_size'):
        original = (stated.findtext('height'), stated.findtext('width'))
        if task.ident is None and original != (str(height), str(width)):
            raise UserError(f'{path}: the video has {original[1]}x{original[0]} pixels, {frames[0]} '
                            f'{size_text((height, width))}; give the images in their original size')
    file.add_video([frame.relative_to(images).as_posix() for frame in frames], height, width)
    objects, label_of = ObjectMasks[Hashable](len(frames)), dict[Hashable, str]()
    others: set[str] = set()
    for track in root.iterfind('track'):
        if task.ident is not None and track.get('task_id') != task.ident:
            continue
        where = f'{path}: track {track.get("id")}'
        label = track.get('label', '')
        if label not in names:
            raise UserError(f'{where}: label {label!r} is not among the categories ({shortened(names)}); add it')
        others |= {element.tag for element in track} - {*_SHAPES, 'attribute'}
        group = track.get('group_id') or '0'
        key: Hashable = (label, group) if group != '0' else len(label_of)
        label_of[key] = label
        for frame, shape in _visible(_keyframes(track, where), task, len(frames), where):
            objects.add(key, frame, shape.rle(height, width, f'{where}, frame {frame}'))
            file.rectangles += shape.kind == 'box'
    masks = objects.tracks()
    for key, label in label_of.items():
        file.add_track(names.index(label) + 1, masks.get(key, []))
    if others:
        file.notes.append(f'{path}: shapes without area are left out: {", ".join(sorted(others))}')


def _keyframes(track: ElementTree.Element, where: str) -> list[Keyframe]:
    shapes = []
    for element in track:
        if element.tag not in _SHAPES:
            continue
        frame = element.get('frame', '')
        if not frame.isdecimal():
            raise UserError(f'{where}: a {element.tag} has the frame {frame!r}, which is not a whole number; export '
                            'the file again')
        shapes.append(_keyframe(element, int(frame), f'{where}, frame {frame}'))
    shapes.sort(key=lambda shape: shape.frame)
    for first, second in pairwise(shapes):
        if first.frame == second.frame:
            raise UserError(f'{where}: has two shapes in frame {first.frame}; export the file again')
    return shapes


def _keyframe(element: ElementTree.Element, frame: int, where: str) -> Keyframe:
    outside = element.get('outside') == '1'
    if element.tag == 'polygon':
        points = element.get('points', '').replace(';', ',')
        return Keyframe(frame, outside, 'polygon', _numbers(points, f'{where}: points'))
    if element.tag == 'mask':
        left, top, width, height = _fields(element, ('left', 'top', 'width', 'height'), where)
        runs = np.array(_numbers(element.get('rle', ''), f'{where}: rle'))
        if width < 1 or height < 1 or width * height > MAX_PIXELS or (runs < 0).any() or runs.sum() != width * height:
            raise UserError(f'{where}: the runs of the mask add up to {runs.sum():.0f}, its rectangle has {width:.0f} '
                            f'* {height:.0f} pixels; export the file again')
        crop = np.repeat(np.arange(len(runs)) % 2 == 1, runs.astype(int)).reshape(int(height), int(width))
        return Keyframe(frame, outside, 'mask', (left, top), crop)
    values = _fields(element, _BOX if element.tag == 'box' else _ELLIPSE, where)
    return Keyframe(frame, outside, element.tag, (*values, _number(element.get('rotation', '0'), where)))


def _fields(element: ElementTree.Element, keys: Sequence[str], where: str) -> tuple[float, ...]:
    values = []
    for key in keys:
        if key not in element.attrib:
            raise UserError(f'{where}: the {element.tag} has no {key}; export the file again')
        values.append(_number(element.attrib[key], f'{where}: {key}'))
    return tuple(values)


def _number(text: str, where: str) -> float:
    value, *others = _numbers(text, where)
    if others:
        raise UserError(f'{where}: {text[:60]!r} is not a number; export the file again')
    return value


def _numbers(text: str, where: str) -> tuple[float, ...]:
    try:
        values = tuple(map(float, text.split(',')))
    except ValueError:
        values = (math.nan,)
    if not all(map(math.isfinite, values)):
        raise UserError(f'{where}: {text[:60]!r} is not a list of numbers; export the file again')
    return values


def _visible(shapes: Sequence[Keyframe], task: CvatTask, length: int, where: str) -> Iterator[tuple[int, Keyframe]]:
    """Yield the index of each frame in which a track is visible, and its shape there."""
    last = task.start + (length - 1) * task.step
    for shape, following in zip(shapes, [*shapes[1:], None]):
        if not shape.outside and not task.start <= shape.frame <= last:
            raise UserError(f'{where}: frame {shape.frame} is not one of the frames {task.start} to {last}; '
                            'give the images of all frames')
        if shape.outside:
            continue
        end = last + 1 if following is None else following.frame
        for frame in range(task.start + -(-(shape.frame - task.start) // task.step) * task.step,
                           min(end, last + 1), task.step):
            yield ((frame - task.start) // task.step,
                   shape if following is None or frame == shape.frame else shape.towards(following, frame))
