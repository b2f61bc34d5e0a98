"""COCO annotations of frames, with ids of video and object, → YouTube-VIS annotations; for cocoframes2yvis.py."""
from __future__ import annotations

from collections.abc import Hashable

from mmdet.datasets.coco_file import CocoFile
from mmdet.datasets.vis_file import VISFile
from mmdet.errors import UserError
from mmdet.paths import natural_key

TRACK_KEYS = ('instance_id', 'track_id', 'object_id')


def coco_frames_to_vis(coco: CocoFile, track_key: str | None = None) -> VISFile:
    """Join the frames of each video and the annotations of each object.

    Images belong to the video that their ``video_id`` (a number or a text) names, without one to the folder that their
    ``file_name`` starts with; their order is that of ``frame_id``, without one the natural order of the file names
    (9 before 10). Category ids stay.

    Args:
        coco: the file, see :func:`~mmdet.datasets.coco_file.check_coco`.
        track_key: the annotation's field that tells objects of a video apart; None: the first of :data:`TRACK_KEYS`.

    Raises:
        UserError: a field is missing or contradicts another: an object twice in a frame or with two categories, two
            frames with one number, frames of two sizes.
    """
    file = VISFile([{'id': category['id'], 'name': category['name']} for category in coco.categories],
                   'converted from COCO annotations of frames')
    key = track_key or _track_key(coco)
    for name, image_ids in _videos(coco).items():
        images = [coco.images[ident] for ident in image_ids]
        for image in images:
            if (image['height'], image['width']) != (images[0]['height'], images[0]['width']):
                raise UserError(f'{coco.path}: image {image["id"]} has {image["width"]}x{image["height"]} pixels, '
                                f'the first of video {name} {images[0]["width"]}x{images[0]["height"]}; '
                                'a video needs one size')
        file.add_video([image['file_name'] for image in images], images[0]['height'], images[0]['width'])
        tracks: dict[Hashable, list[dict | None]] = {}
        first: dict[Hashable, dict] = {}
        for frame, ident in enumerate(image_ids):
            for annotation, rle in zip(coco.annotations[ident], coco.masks(ident)):
                track = _track(coco, annotation, key)
                _check(coco, annotation, first.setdefault(track, annotation), rle)
                shown = tracks.setdefault(track, [None] * len(images))
                if shown[frame] is not None:
                    raise UserError(f'{coco.path}: annotation {annotation["id"]} is a second one of object {track} in '
                                    f'image {ident}; join the two or give them different ids')
                shown[frame] = rle
        for track, rles in tracks.items():
            file.add_track(first[track]['category_id'], rles, int(bool(first[track].get('iscrowd'))))
    return file


def _track_key(coco: CocoFile) -> str:
    annotation = next((annotation for frame in coco.annotations.values() for annotation in frame), None)
    if annotation is None:
        raise UserError(f'{coco.path} has no annotations; there is nothing to convert')
    key = next((key for key in TRACK_KEYS if key in annotation), None)
    if key is None:
        raise UserError(f'{coco.path}: annotation {annotation["id"]} has none of {", ".join(TRACK_KEYS)}; name the '
                        'field that tells objects apart with --track-key')
    return key


def _track(coco: CocoFile, annotation: dict, key: str) -> Hashable:
    track = annotation.get(key)
    if not isinstance(track, (int, str)) or isinstance(track, bool):
        raise UserError(f'{coco.path}: annotation {annotation["id"]}: {key} is {str(track)[:60]}, no number and no '
                        'text; name the right field with --track-key')
    return track


def _check(coco: CocoFile, annotation: dict, first: dict, rle: dict | None) -> None:
    """An annotation against the object's first one."""
    if rle is None:
        raise UserError(f'{coco.path}: annotation {annotation["id"]} has no segmentation; boxes make no masks')
    if annotation['category_id'] != first['category_id']:
        raise UserError(f'{coco.path}: annotation {annotation["id"]} gives its object the '
                        f'category {annotation["category_id"]}, annotation {first["id"]} {first["category_id"]}; '
                        'an object has one')


def _videos(coco: CocoFile) -> dict[Hashable, list[int]]:
    """Image ids of each video in the order of its frames, the videos in the order of their first image."""
    places: dict[Hashable, list[tuple]] = {}
    for ident, image in coco.images.items():
        video = image.get('video_id')
        if video is None:
            video = image['file_name'].rpartition('/')[0]
            if '\\' in image['file_name']:
                raise UserError(f'{coco.path}: image {ident} has no video_id, and its file_name {image["file_name"]!r} '
                                'has backslashes; write slashes between folders')
            if not video:
                raise UserError(f'{coco.path}: image {ident} has no video_id, and its file_name {image["file_name"]!r} '
                                'no folder that could name the video; add video_id')
        number = image.get('frame_id')
        if number is not None and type(number) is not int:
            raise UserError(f'{coco.path}: image {ident}: frame_id {str(number)[:60]!r} is not an integer')
        places.setdefault(video, []).append((number, image['file_name'], ident))
    videos = {}
    for video, frames in places.items():
        numbers = [number for number, _, _ in frames if number is not None]
        if numbers and len(set(numbers)) < len(frames):
            raise UserError(f'{coco.path}: video {video}: frame_id is missing or the same for two of its {len(frames)} '
                            'images; number them all, or none to go by file name')
        videos[video] = [ident for *_, ident in
                         sorted(frames, key=lambda frame: (frame[0] or 0, natural_key(frame[1]), frame[2]))]
    return videos
