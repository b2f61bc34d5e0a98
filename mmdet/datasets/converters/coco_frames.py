"""Convert COCO annotations of video frames to YouTube-VIS annotations; called by cocoframes2yvis.py."""
from __future__ import annotations

from collections.abc import Hashable

from mmdet.datasets.coco_file import CocoFile
from mmdet.datasets.vis_file import VISFile
from mmdet.errors import UserError
from mmdet.paths import natural_key

TRACK_KEYS = ('instance_id', 'track_id', 'object_id')


def coco_frames_to_vis(coco: CocoFile, track_key: str | None = None) -> VISFile:
    """Join the frames of each video and the annotations of each object.

    The video of an image is given by its ``video_id`` (a number or a string) or, without one, by the folder in its
    ``file_name``. Frames are ordered by ``frame_id`` or, without one, by file name in natural order (9 before 10).
    Category ids are kept.

    Args:
        coco: the file, see :func:`~mmdet.datasets.coco_file.check_coco`.
        track_key: field of an annotation that identifies its object in the video; None: the first of
            :data:`TRACK_KEYS` that is present.

    Raises:
        UserError: a field is missing or contradicts another: an object is annotated twice in a frame or has two
            categories, two frames have the same number, or the frames of a video have different sizes.
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
        raise UserError(f'{coco.path}: annotation {annotation["id"]}: {key} is {str(track)[:60]}, neither an integer '
                        'nor a string; name the right field with --track-key')
    return track


def _check(coco: CocoFile, annotation: dict, first: dict, rle: dict | None) -> None:
    """Check an annotation, and its category against that of the first annotation of its object."""
    if rle is None:
        raise UserError(f'{coco.path}: annotation {annotation["id"]} has no segmentation; masks are needed, a box is '
                        'not enough')
    if annotation['category_id'] != first['category_id']:
        raise UserError(f'{coco.path}: annotation {annotation["id"]} gives its object the '
                        f'category {annotation["category_id"]}, annotation {first["id"]} {first["category_id"]}; '
                        'give the object one category')


def _videos(coco: CocoFile) -> dict[Hashable, list[int]]:
    """Return the image ids of each video in the order of its frames; videos are in the order of their first image."""
    frames_of: dict[Hashable, list[tuple]] = {}
    for ident, image in coco.images.items():
        video = image.get('video_id')
        if video is None:
            video = image['file_name'].rpartition('/')[0]
            if '\\' in image['file_name']:
                raise UserError(f'{coco.path}: image {ident} has no video_id, and its file_name {image["file_name"]!r} '
                                'has backslashes; write slashes between folders')
            if not video:
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
