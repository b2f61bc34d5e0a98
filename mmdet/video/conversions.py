"""Convert the objects of a frame to plain data: JSON, NumPy and ``supervision``.

Called by the methods of :class:`mmdet.apis.VideoInferencer`.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmdet.errors import missing_package
from mmdet.structures import DetDataSample
from mmdet.structures.masks import decode_masks
from mmdet.structures.result_tracks import xywh_boxes
from mmdet.video.result_writer import frame_objects

if TYPE_CHECKING:
    from supervision import Detections

REQUIREMENT = 'supervision==0.31.2'


def frame_json(frame: DetDataSample, category_ids: Sequence[int] | None, class_names: Sequence[str] | None) -> dict:
    """Return a frame as a line of :class:`mmdet.video.result_writer.VideoResultWriter`, of Python types only.

    Args:
        frame: result of :class:`mmdet.apis.VideoInferencer`.
        category_ids: category id of each label; None: label + 1.
        class_names: class name of each label; None: objects have no ``category``.
    """
    head = {key: value for key in ('frame_id', 'source_frame', 'time', 'dropped')
            if (value := frame.get(key)) is not None}
    if 'time' in head:
        head['time'] = round(head['time'], 6)
    return head | {'objects': frame_objects(frame.pred_track_instances, category_ids, class_names)}


def frame_masks(frame: DetDataSample) -> np.ndarray:
    """Return the masks of the n objects of a frame as (n, h, w) bool in the size of the frame."""
    masks = frame.pred_track_instances.masks
    return decode_masks(masks).astype(bool) if len(masks) else np.zeros((0, *frame.ori_shape[:2]), bool)


def frame_detections(frame: DetDataSample, class_names: Sequence[str] | None) -> Detections:
    """Return a frame as ``supervision.Detections``: boxes, masks, scores, labels, track ids and class names.

    ``xyxy`` are the left, upper, right and lower edge of the box in pixels, so that their difference is its size.

    Raises:
        UserError: ``supervision`` is not installed.
    """
    try:
        from supervision import Detections
    except ImportError as error:
        raise missing_package(error, 'to_supervision', REQUIREMENT) from error
    found = frame.pred_track_instances
    boxes = xywh_boxes(np.asarray(found.bboxes).reshape(-1, 4))
    boxes[:, 2:] += boxes[:, :2]
    labels = np.asarray(found.labels, int)
    names = [str(label) if class_names is None else class_names[label] for label in labels.tolist()]
    return Detections(xyxy=boxes.astype(np.float32), mask=frame_masks(frame), class_id=labels,
                      confidence=np.asarray(found.scores, np.float32), tracker_id=np.asarray(found.instances_id, int),
                      data={'class_name': np.array(names, dtype=str)})
