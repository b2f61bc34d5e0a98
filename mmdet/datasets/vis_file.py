"""Build the content of a YouTube-VIS JSON file; called by the converters in tools/dataset_converters."""
from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pycocotools import mask as coco_mask

from mmdet.errors import UserError, counted
from mmdet.files import atomic_open, load_text
from mmdet.structures.masks import rle_boxes, rle_text

SHOWN_NOTES = 5  # of each kind


def load_category_names(path: str | os.PathLike) -> list[str]:
    """Return the category names of a text file, one on each line; empty lines are skipped.

    Raises:
        UserError: the file cannot be read, has no name, or has one twice.
    """
    names = [name.strip() for name in load_text(path).split('\n') if name.strip()]
    if not names:
        raise UserError(f'{path}: has no category name; write one on each line')
    if doubled := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f'{path}: has the category {doubled[0]!r} twice; remove one of the lines')
    return names


class VISFile:
    """Collect videos and tracks and number them from 1.

    Args:
        categories: ``id`` (int) and ``name`` of each category.
        description: description of the source of the data.

    Attributes:
        notes: what was left out or changed, one line each.
        warnings: probable mistakes in the source, one line each.
        rectangles: number of annotations with a box and no mask, whose masks are the rectangles.
    """

    def __init__(self, categories: Sequence[dict], description: str) -> None:
        self.content: dict[str, Any] = {'info': {'description': description}, 'categories': list(categories),
                                        'videos': [], 'annotations': []}
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.rectangles = self._invisible = self._empty = 0

    def add_video(self, file_names: Sequence[str], height: int, width: int) -> int:
        """Add a video whose frames have the given size in pixels; return its id."""
        videos = self.content['videos']
        videos.append({'id': len(videos) + 1, 'height': height, 'width': width, 'length': len(file_names),
                       'file_names': list(file_names)})
        return len(videos)

    def add_track(self, category_id: int, rles: Sequence[dict | None], iscrowd: int = 0) -> bool:
        """Add an object to the video added last; an object that is never visible is left out and counted.

        Boxes (x, y, w, h in pixels) and areas are computed from the masks.

        Args:
            category_id: id of the category of the object.
            rles: trusted compressed RLE of the object in each frame of the video, None where it is not visible. An
                empty mask counts as None.
            iscrowd: 1 for a crowd, a group of objects that is neither trained on nor scored.

        Returns:
            Whether the object was added.
        """
        video, annotations = self.content['videos'][-1], self.content['annotations']
        size = [video['height'], video['width']]
        areas = [int(coco_mask.area(rle)) if rle else 0 for rle in rles]
        if not any(areas):
            self._invisible += 1
            return False
        self._empty += sum(rle is not None and not area for rle, area in zip(rles, areas))
        annotations.append({
            'id': len(annotations) + 1, 'video_id': video['id'], 'category_id': category_id, 'iscrowd': iscrowd,
            'height': size[0], 'width': size[1], 'length': len(rles),
            'segmentations': [rle_text(rle) if rle and area else None
                              for rle, area in zip(rles, areas)],
            'bboxes': [rle_boxes([rle])[0].tolist() if rle and area else None for rle, area in zip(rles, areas)],
            'areas': [area or None for area in areas]})
        return True

    def summary(self) -> str:
        """Return the numbers of videos, frames, objects and categories in one line."""
        videos, annotations = self.content['videos'], self.content['annotations']
        return (f'{counted(len(videos), "video")}, {counted(sum(video["length"] for video in videos), "frame")}, '
                f'{counted(len(annotations), "object")}, {counted(len(self.content["categories"]), "category")}')

    def save(self, path: str | os.PathLike) -> None:
        """Write the JSON file; raise UserError if that fails."""
        with atomic_open(path, 'w') as out:
            json.dump(self.content, out, separators=(',', ':'))

    def report(self, path: str | os.PathLike) -> str:
        """Return the text for the user after the file has been written to ``path``: warnings, notes and the summary."""
        notes = list(self.notes)
        if self.rectangles:
            notes.append(f'{counted(self.rectangles, "annotation")} with a box and no mask: the rectangle is the mask')
        if self._invisible:
            notes.append(f'left out: {counted(self._invisible, "object")} without a pixel inside the image in any '
                         'frame')
        if self._empty:
            notes.append(f'left out: {counted(self._empty, "mask")} of other objects without a pixel inside the image')
        lines = [*_limited('warning', self.warnings), *_limited('note', notes)]
        return '\n'.join([*lines, f'{path}: {self.summary()}'])


def _limited(kind: str, texts: Sequence[str]) -> list[str]:
    more = len(texts) - SHOWN_NOTES
    return [f'{kind}: {text}' for text in texts[:SHOWN_NOTES]] + ([f'{kind}: {more} more'] if more > 0 else [])
