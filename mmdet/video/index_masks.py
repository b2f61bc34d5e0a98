"""Write the masks of a video as index PNGs, the format that tools/dataset_converters/masks2yvis.py reads.

Called by :class:`mmdet.apis.VideoInferencer`, through a :class:`FrameSink`, and by :func:`mmdet.apis.export_result`.
"""
from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.structures import InstanceData
from PIL import Image

from mmdet.errors import UserError
from mmdet.files import atomic_open, check_writable
from mmdet.structures import DetDataSample
from mmdet.structures.masks import decode_masks
from mmdet.video.frame_sink import FrameConsumer
from mmdet.visualization.colors import color_of
from mmdet.visualization.writers import make_folder, write_picture

MOST_OBJECTS = 2**16 - 1
_PALETTE_SIZE = 256


def object_number(track_id: int) -> int:
    """Return the number of a track in index masks and MOT files, which count objects from 1."""
    return int(track_id) + 1


def index_mask(found: InstanceData, height: int, width: int) -> np.ndarray:
    """Draw the masks of a frame into one image; where they overlap, the object with the higher score is in front.

    Args:
        found: ids, scores and masks (RLE) of the objects, see :class:`DetDataSample`.
        height, width: size of the frame in pixels.

    Returns:
        (height, width) int64: the number of the object, see :func:`object_number`, 0 in the background.
    """
    index = np.zeros((height, width), np.int64)
    for place in np.argsort(np.asarray(found.scores), kind='stable'):
        index[decode_masks([found.masks[place]])[0] > 0] = object_number(found.instances_id[place])
    return index


def frame_size(image: np.ndarray | None, sample: DetDataSample) -> tuple[int, int]:
    """Return the height and width of a frame in pixels, of its image or else of ``sample.ori_shape``."""
    height, width = sample.ori_shape[:2] if image is None else image.shape[:2]
    return height, width


class IndexMaskWriter(FrameConsumer):
    """Write ``<folder>/<frame>.png`` for each frame and, when closed, ``<folder>/meta.json``.

    A pixel is 0 in the background, elsewhere the number of the object, which is its id + 1. Files have a palette and 8
    bits, or 16 bits if a number of the frame is larger than 255. ``<frame>`` is the name of the image file, or the
    number of the frame in its video. ``meta.json`` has the categories in the form of YouTube-VOS.

    Args:
        folder: output folder, created with the first frame; its name is the name of the video in ``meta.json``.
        class_names: class name of each label; None: the labels, counted from 1, as text.

    Raises:
        UserError: a file cannot be written, or an id is larger than 65534.
    """

    def __init__(self, folder: Path, class_names: Sequence[str] | None = None) -> None:
        self._folder, self._names = folder, class_names
        self._labels: dict[int, Counter[int]] = {}
        self._empty = True
        check_writable(folder / 'meta.json', 'masks')

    def add(self, image: np.ndarray | None, sample: DetDataSample) -> None:
        """Write the ``pred_track_instances`` of a frame; ``image`` gives its size, or else ``sample.ori_shape``."""
        found = sample.pred_track_instances
        index = index_mask(found, *frame_size(image, sample))
        for track_id, label in zip(found.instances_id.tolist(), found.labels.tolist()):
            self._labels.setdefault(object_number(track_id), Counter())[label] += 1
        path = sample.get('img_path')
        stem = Path(path).stem if path else f'{sample.source_frame:05d}'
        data = _png(index, str(self._folder))
        if self._empty:
            make_folder(self._folder)
            self._empty = False
        write_picture(self._folder / f'{stem}.png', data)

    def close(self) -> None:
        """Write ``meta.json``; further calls have no effect. Without frames, nothing is written."""
        if self._empty:
            return
        self._empty = True
        objects = {}
        for number, labels in sorted(self._labels.items()):
            label = min(labels, key=lambda label: (-labels[label], label))
            objects[str(number)] = {'category': str(label + 1) if self._names is None else self._names[label]}
        with atomic_open(self._folder / 'meta.json', 'w') as file:
            json.dump({'videos': {self._folder.name: {'objects': objects}}}, file)


def _png(index: np.ndarray, name: str) -> bytes:
    highest = int(index.max(initial=0))
    if highest > MOST_OBJECTS:
        raise UserError(f'{name}: object {highest} does not fit into 16 bits; write JSON instead of masks')
    if highest < _PALETTE_SIZE:
        image = Image.fromarray(index.astype(np.uint8), 'L').convert('P')
        image.putpalette([0, 0, 0, *(value for number in range(_PALETTE_SIZE - 1) for value in color_of(number)[::-1])])
    else:
        image = Image.fromarray(index.astype(np.uint16))
    data = io.BytesIO()
    image.save(data, 'PNG')
    return data.getvalue()
