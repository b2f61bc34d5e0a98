"""Convert annotations of BURST (Athar et al., WACV 2023) to YouTube-VIS annotations; called by burst2yvis.py.

A file has ``sequences`` of ``annotated_image_paths``, and for each of these frames ``segmentations`` by track id. The
images are ``<dataset>/<seq_name>/<image path>``.
"""
from __future__ import annotations

import os
from typing import Any

from tqdm import tqdm

from mmdet.datasets.converters.shapes import ObjectMasks, box_mask
from mmdet.datasets.vis_file import VISFile
from mmdet.errors import UserError
from mmdet.structures.masks import check_image_size, parse_segmentations
from mmdet.structures.vis_json import checked_ids


def burst_to_vis(content: Any, path: str | os.PathLike) -> VISFile:
    """Convert the content of a file. Category ids are kept; frames that are not annotated are left out.

    An entry with a ``bbox`` (x, y, width, height) and no ``rle`` becomes a rectangle.

    Args:
        content: content of the JSON file.
        path: path of the file, for messages.

    Raises:
        UserError: the content is not BURST's, or contradicts itself.
    """
    for key in ('sequences', 'categories'):
        if not isinstance(content, dict) or not isinstance(content.get(key), list) or not content[key]:
            raise UserError(f'{path} is not BURST JSON: it needs a non-empty list {key!r}; check the file')
    category_ids = checked_ids(content['categories'], 'categories', str(path))
    file = VISFile([{'id': ident, 'name': str(category.get('name', ident))}
                    for ident, category in zip(category_ids, content['categories'])], 'converted from BURST')
    for number, sequence in enumerate(tqdm(content['sequences'], unit=' videos')):
        _add_sequence(file, sequence, set(category_ids), f'{path}: sequences[{number}]')
    return file


def _add_sequence(file: VISFile, sequence: Any, category_ids: set[int], where: str) -> None:
    names = sequence.get('annotated_image_paths') if isinstance(sequence, dict) else None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(f'{where} has no list of annotated_image_paths; check the file')
    where = f'{where} ({sequence.get("seq_name")})'
    frames, categories = sequence.get('segmentations'), sequence.get('track_category_ids')
    if not isinstance(frames, list) or len(frames) != len(names) or {dict} != set(map(type, frames)):
        raise UserError(f'{where}: segmentations must be a list of objects, one for each annotated image '
                        f'({len(names)})')
    if not isinstance(categories, dict):
        raise UserError(f'{where} has no track_category_ids; a file for testing has no annotations to convert')
    height, width = sequence.get('height'), sequence.get('width')
    check_image_size(height, width, where)
    folder = [part for key in ('dataset', 'seq_name') if isinstance(part := sequence.get(key), str) and part]
    file.add_video(['/'.join([*folder, name]) for name in names], height, width)
    objects = ObjectMasks[str](len(names))
    for frame, entries in enumerate(frames):
        for track, entry in entries.items():
            if type(categories.get(track)) is not int or categories[track] not in category_ids:
                raise UserError(f'{where}: track {track} has the category {categories.get(track)}, which the file '
                                'lacks; correct track_category_ids')
            rle, is_box = _mask(entry, height, width, f'{where}, frame {frame}, track {track}')
            objects.add(track, frame, rle)
            file.rectangles += is_box
    for track, rles in objects.tracks().items():
        file.add_track(categories[track], rles)


def _mask(entry: Any, height: int, width: int, where: str) -> tuple[dict, bool]:
    """Return the RLE of an entry, and whether it is a rectangle."""
    counts, box = (entry.get('rle'), entry.get('bbox')) if isinstance(entry, dict) else (entry, None)
    if counts is not None:
        (rle,), _ = parse_segmentations([{'size': [height, width], 'counts': counts}], height, width, where)
        if rle is not None:
            return rle, False
    return box_mask(box, height, width, where), True
