"""Build the content of a YouTube-VIS JSON file; called by the converters in tools/dataset_converters."""
from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from pycocotools import mask as coco_mask

from mmdet.files import atomic_open, load_text
from mmdet.structures.masks import rle_boxes, rle_text

SHOWN_NOTES = 5


def load_category_names(path: str | os.PathLike) -> list[str]:
    """Return the category names of a text file, one on each line; empty lines are skipped."""
    return [name.strip() for name in load_text(path).split('\n') if name.strip()]


class VISFile:
    """Collect videos and tracks and number them from 1.

    Args:
        categories: ``id`` (int) and ``name`` of each category.
        description: description of the source of the data.

    Attributes:
        notes: what the user should know about the conversion, one line each.
    """

    def __init__(self, categories: Sequence[dict], description: str) -> None:
        self.content: dict[str, Any] = {'info': {'description': description}, 'categories': list(categories),
                                        'videos': [], 'annotations': []}
        self.notes: list[str] = []

    def add_video(self, file_names: Sequence[str], height: int, width: int) -> int:
        """Add a video whose frames have the given size in pixels; return its id."""
        videos = self.content['videos']
        videos.append({'id': len(videos) + 1, 'height': height, 'width': width, 'length': len(file_names),
                       'file_names': list(file_names)})
        return len(videos)

    def add_track(self, category_id: int, rles: Sequence[dict | None], iscrowd: int = 0) -> bool:
        """Add an object to the video added last; an object that is never visible is left out.

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
            return False
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
        return (f'{len(videos)} videos, {sum(video["length"] for video in videos)} frames, {len(annotations)} objects, '
                f'{len(self.content["categories"])} categories')

    def save(self, path: str | os.PathLike) -> None:
        """Write the JSON file; raise UserError if that fails."""
        with atomic_open(path, 'w') as out:
            json.dump(self.content, out, separators=(',', ':'))

    def report(self, path: str | os.PathLike) -> str:
        """Return the text for the user after the file has been written to ``path``: the notes and the summary."""
        more = len(self.notes) - SHOWN_NOTES
        lines = [f'note: {note}' for note in self.notes[:SHOWN_NOTES]]
        lines += [f'note: {more} more of this kind'] if more > 0 else []
        return '\n'.join([*lines, f'{path}: {self.summary()}'])
