"""Convert COCO annotations of video frames to YouTube-VIS annotations; called by cocoframes2yvis.py."""
from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from tqdm import tqdm

from mmdet.datasets.coco_file import CocoFile
from mmdet.datasets.converters.shapes import ObjectMasks, box_mask
from mmdet.datasets.vis_file import VISFile
from mmdet.errors import UserError, counted
from mmdet.paths import natural_key

TRACK_KEYS = ('instance_id', 'track_id', 'object_id')


def coco_frames_to_vis(coco: CocoFile, track_key: str | None = None, crowds_as_objects: bool = False) -> VISFile:
    """Join the frames of each video and the annotations of each object.

    The video of an image is given by its ``video_id`` (a number or a string) or, without one, by the folder in its
    ``file_name``. Frames are ordered by ``frame_id`` or, without one, by file name in natural order (9 before 10).
    Category ids are kept.

    Several annotations of an object in a frame are its pieces. An annotation with a box and no mask becomes a
    rectangle, and a note counts them.

    Args:
        coco: the file, see :func:`~mmdet.datasets.coco_file.check_coco`.
        track_key: field of an annotation, or of its ``attributes`` (CVAT), that identifies its object in the video;
            None: the first of :data:`TRACK_KEYS` that is present.
        crowds_as_objects: convert annotations with ``iscrowd`` 1 to ordinary objects.

    Raises:
        UserError: a field is missing or contradicts another: an object has two categories, two frames have the same
            number, or the frames of a video have different sizes.
    """
    file = VISFile([{'id': category['id'], 'name': category['name']} for category in coco.categories],
                   'converted from COCO annotations of frames')
    key = track_key or _track_key(coco)
    crowds = 0
    for name, image_ids in tqdm(_videos(coco).items(), unit=' videos'):
        images = [coco.images[ident] for ident in image_ids]
        for image in images:
            if (image['height'], image['width']) != (images[0]['height'], images[0]['width']):
                raise UserError(f'{coco.path}: image {image["id"]} has {image["width"]}x{image["height"]} pixels, '
                                f'the first of video {name} {images[0]["width"]}x{images[0]["height"]}; '
                                'a video needs one size')
        file.add_video([image['file_name'] for image in images], images[0]['height'], images[0]['width'])
        objects = ObjectMasks[Hashable](len(images))
        first: dict[Hashable, dict] = {}
        for frame, ident in enumerate(image_ids):
            for annotation, rle in zip(coco.annotations[ident], coco.masks(ident)):
                track = _track(coco, annotation, key)
                _check_category(coco, annotation, first.setdefault(track, annotation))
                if rle is None:
                    rle = box_mask(annotation.get('bbox'), images[frame]['height'], images[frame]['width'],
                                   f'{coco.path}: annotation {annotation["id"]}')
                    file.rectangles += 1
                objects.add(track, frame, rle)
        for track, rles in objects.tracks().items():
            crowd = bool(first[track].get('iscrowd')) and not crowds_as_objects
            crowds += file.add_track(first[track]['category_id'], rles, int(crowd)) and crowd
    if crowds:
        file.notes.append(f'{counted(crowds, "crowd")} (objects with iscrowd 1), neither trained on nor scored; CVAT '
                          'gives 1 to painted masks: if they are single objects, add --crowds-as-objects')
    return file


def _track_key(coco: CocoFile) -> str:
    annotation = next((annotation for frame in coco.annotations.values() for annotation in frame), None)
    if annotation is None:
        raise UserError(f'{coco.path} has no annotations; there is nothing to convert')
    every = (annotation for frame in coco.annotations.values() for annotation in frame)
    key = next((key for annotation in every for key in TRACK_KEYS if _field(annotation, key) is not None), None)
    if key is None:
        raise UserError(f'{coco.path}: annotation {annotation["id"]} has none of {", ".join(TRACK_KEYS)}, nor have its '
                        'attributes; name the field that tells objects apart with --track-key, or export tracks')
    return key


def _field(annotation: dict, key: str) -> Any:
    """Return a field of an annotation or, as CVAT writes it, of its attributes."""
    attributes = annotation.get('attributes')
    return annotation.get(key) if key in annotation or not isinstance(attributes, dict) else attributes.get(key)


def _track(coco: CocoFile, annotation: dict, key: str) -> Hashable:
    track = _field(annotation, key)
    if track is None:
        raise UserError(f'{coco.path}: annotation {annotation["id"]} has no {key}; make it part of a track in the '
                        'annotation tool, delete it, or name the right field with --track-key')
    if isinstance(track, float) and track.is_integer():  # as tables with missing values write integers
        return int(track)
    if not isinstance(track, (int, str)) or isinstance(track, bool):
        raise UserError(f'{coco.path}: annotation {annotation["id"]}: {key} is {str(track)[:60]}, neither an integer '
                        'nor a string; name the right field with --track-key')
    return track


def _check_category(coco: CocoFile, annotation: dict, first: dict) -> None:
    """Check the category of an annotation against that of the first annotation of its object."""
    if annotation['category_id'] != first['category_id']:
        raise UserError(f'{coco.path}: annotation {annotation["id"]} gives its object the '
                        f'category {annotation["category_id"]}, annotation {first["id"]} {first["category_id"]}; '
                        'give the object one category')


def _videos(coco: CocoFile) -> dict[Hashable, list[int]]:
    """Return the image ids of each video in the order of its frames; videos are in the order of their first image.

    If no image has a folder or a ``video_id``, all are frames of one video, as in CVAT's export of a task.
    """
    single = all(image.get('video_id') is None and '/' not in image['file_name'] for image in coco.images.values())
    frames_of: dict[Hashable, list[tuple]] = {}
    for ident, image in coco.images.items():
        if '\\' in image['file_name']:
            raise UserError(f'{coco.path}: the file_name {image["file_name"]!r} of image {ident} has backslashes; '
                            'write slashes between folders')
        video = image.get('video_id')
        if video is None:
            video = image['file_name'].rpartition('/')[0]
            if not video and not single:
                raise UserError(f'{coco.path}: image {ident} has no video_id, and its file_name {image["file_name"]!r} '
                                'has no folder that could name the video; add video_id')
        number = image.get('frame_id')
        if number is not None and type(number) is not int:
            raise UserError(f'{coco.path}: image {ident}: frame_id {str(number)[:60]!r} is not an integer')
        frames_of.setdefault(video, []).append((number, image['file_name'], ident))
    videos = {}
    for video, frames in frames_of.items():
        numbers = [number for number, _, _ in frames if number is not None]
        if numbers and len(set(numbers)) < len(frames):
            raise UserError(f'{coco.path}: video {video}: frame_id is missing or the same for two of its {len(frames)} '
                            'images; number all of them, or none to order them by file name')
        videos[video] = [ident for *_, ident in
                         sorted(frames, key=lambda frame: (frame[0] or 0, natural_key(frame[1]), frame[2]))]
    return videos
