"""Data set of single images in COCO format, for image detectors (FCOS); built from a config by name."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mmdet.datasets.coco_file import CocoFile, check_coco
from mmdet.datasets.packed_annotations import VideoAnnotations, read_youtube_vis
from mmdet.datasets.youtube_vis import YVISDataset
from mmdet.registry import DATASETS


@DATASETS.register_module()
class CocoDataset(YVISDataset):
    """Data set in COCO JSON format. An image is a clip of one frame: ``video_id`` is the image's id, ``frame_id`` 0.

    Training items are the images with at least one object that is not a crowd; testing items are all images in the
    order of the file. For arguments and errors see :class:`~mmdet.datasets.YVISDataset`.
    """

    METAINFO = {'dataset_type': 'COCO'}

    def read_annotations(self) -> VideoAnnotations:
        return read_youtube_vis(self.ann_file, self._convert)

    def _convert(self, data: Any) -> Any:
        if isinstance(data, dict):
            data = {'annotations': []} | data  # test sets have none
        return images_as_videos(check_coco(data, Path(self.ann_file)))

    def _clip_length(self, video: int, first: int) -> int:
        return 1

    def _training_frames(self, video: int, first: int, rng: np.random.Generator) -> list[int]:
        return [first]


def images_as_videos(coco: CocoFile) -> dict:
    """Convert the content of a COCO file to YouTube-VIS form; every image becomes a video of one frame.

    The mask of an annotation without segmentation is the rectangle of its box.
    """
    videos = [{'id': ident, 'height': image['height'], 'width': image['width'], 'file_names': [image['file_name']]}
              for ident, image in coco.images.items()]
    annotations = []
    for image_id, objects in coco.annotations.items():
        for annotation in objects:
            box = annotation.get('bbox')
            entry = {'id': annotation['id'], 'video_id': image_id, 'category_id': annotation['category_id'],
                     'iscrowd': annotation.get('iscrowd', 0),
                     'segmentations': [annotation.get('segmentation') or _rectangle(box)]}
            if box is not None:
                entry['bboxes'] = [box]
            if annotation.get('area') is not None:
                entry['areas'] = [annotation['area']]
            annotations.append(entry)
    return {'videos': videos, 'categories': coco.categories, 'annotations': annotations}


def _rectangle(box: Any) -> list[list[float]] | None:
    """Return a box x, y, w, h as a polygon; None if the value is not a box."""
    if not isinstance(box, list) or len(box) != 4 or not all(type(value) in (int, float) for value in box):
        return None
    x, y, w, h = box
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]
