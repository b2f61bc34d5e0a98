"""Check the content of annotation files in COCO format; called by the data sets and the converters."""
from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from mmdet.errors import UserError
from mmdet.structures.masks import check_image_size, parse_segmentations
from mmdet.structures.vis_json import checked_ids


@dataclass(frozen=True)
class CocoFile:
    """A checked COCO file.

    Attributes:
        path: path of the file, for messages.
        categories: ``id`` and ``name`` of each category, in the order of the file.
        images: ``file_name``, ``height``, ``width`` and any other fields of each image, by image id.
        annotations: list of annotations (``id``, ``category_id``, ``segmentation``, ...) of each image, by image id.
    """

    path: str
    categories: list[dict]
    images: dict[int, dict]
    annotations: dict[int, list[dict]]

    def masks(self, image_id: int) -> list[dict | None]:
        """Return the trusted compressed RLE of each annotation of an image, None where it has no segmentation.

        Raises:
            UserError: a segmentation is damaged.
        """
        image, annotations = self.images[image_id], self.annotations[image_id]
        rles, _ = parse_segmentations([annotation.get('segmentation') for annotation in annotations], image['height'],
                                      image['width'], f'{self.path}: image {image_id}, its annotations')
        return rles


def check_coco(data: Any, path: str | os.PathLike) -> CocoFile:
    """Check the content of a COCO file: its lists, unique and known ids, names and image sizes.

    Raises:
        UserError: the content is not valid; the message names the file, the entry and the remedy.
    """
    for key in ('images', 'annotations', 'categories'):
        if not isinstance(data, dict) or not isinstance(data.get(key), list):
            raise UserError(f'{path} is not COCO JSON: it needs a list {key!r}; check the file')
    category_ids = checked_ids(data['categories'], 'categories', str(path))
    for category in data['categories']:
        if not isinstance(category.get('name'), str):
            raise UserError(f'{path}: category {category["id"]} has no name; give each category one')
    images = dict(zip(checked_ids(data['images'], 'images', str(path)), data['images']))
    for ident, image in images.items():
        check_image_size(image.get('height'), image.get('width'), f'{path}: image {ident}')
        if not isinstance(image.get('file_name'), str):
            raise UserError(f'{path}: image {ident} has no file_name; correct the file')
    annotations: dict[int, list[dict]] = {ident: [] for ident in images}
    known = set(category_ids)
    for ident, annotation in zip(checked_ids(data['annotations'], 'annotations', str(path)), data['annotations']):
        image_id, category_id = annotation.get('image_id'), annotation.get('category_id')
        if type(image_id) is not int or image_id not in annotations:
            raise UserError(f'{path}: annotation {ident}: image_id {str(image_id)[:60]} is not in the file')
        if type(category_id) is not int or category_id not in known:
            raise UserError(f'{path}: annotation {ident}: category_id {str(category_id)[:60]} is not in the file')
        annotations[image_id].append(annotation)
    return CocoFile(str(path), data['categories'], images, annotations)
