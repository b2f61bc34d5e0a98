"""Data set of pseudo-videos from COCO images, for joint training with YouTube-VIS or OVIS; built from a config by name.

All frames of a clip are the same image. ``AffineColourReference`` augments the reference frame of a pair,
``RotateStillClip`` rotates the frames of a longer clip (``train_clip_len``), and ``AffineMotionClip`` moves the frames
of a clip of any length along a smooth path.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any

from mmdet.datasets.coco_categories import TARGETS, Target
from mmdet.datasets.coco_file import check_coco
from mmdet.datasets.converters.coco_images import coco_images_to_vis
from mmdet.datasets.packed_annotations import VideoAnnotations, read_youtube_vis
from mmdet.datasets.youtube_vis import YVISDataset
from mmdet.errors import UserError
from mmdet.registry import DATASETS


@DATASETS.register_module()
class COCOVIS(YVISDataset):
    """Data set of training pairs and clips from single images.

    Args:
        ann_file: COCO file (``instances_train2017.json``), which is converted whenever it is read, or the output of
            tools/dataset_converters/coco2yvis.py, which is read faster.
        target: categories of the video data set to train with: 'yvis2019', 'yvis2021' or 'ovis', or a mapping from its
            category names, in the order of their ids, to COCO category names (``dict(vehicle=['car', 'bus'], ...)``);
            None: the categories of the file.
        **kwargs: see :class:`~mmdet.datasets.YVISDataset`; ``test_mode`` is not supported.

    Raises:
        UserError: see :class:`~mmdet.datasets.YVISDataset`; or a converted file has other categories than the target.
    """

    METAINFO = {'dataset_type': 'COCO'}

    def __init__(self, ann_file: str, target: Target = None, **kwargs: Any) -> None:
        if kwargs.get('test_mode'):
            raise UserError('COCOVIS is for training only; remove test_mode')
        self.target = target
        super().__init__(ann_file, **kwargs)

    def read_annotations(self) -> VideoAnnotations:
        annotations = read_youtube_vis(self.ann_file, self._convert)
        if self.target is None:
            return annotations
        if isinstance(self.target, str):
            names = TARGETS[self.target].names
            remedy = f'convert it again with tools/dataset_converters/coco2yvis.py --target {self.target}'
        else:
            names = tuple(self.target)
            remedy = "give COCO's own file as ann_file"
        if annotations.classes != names:
            raise UserError(f'{self.ann_file} was not converted to the categories of {self.target}; {remedy}')
        return annotations

    def _convert(self, data: Any) -> Any:
        if isinstance(data, dict) and 'images' in data:
            return coco_images_to_vis(check_coco(data, Path(self.ann_file)), self.target).content
        return data
