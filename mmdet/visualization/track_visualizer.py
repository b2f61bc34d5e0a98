"""Draw the predicted or annotated objects of a frame.

Called by :class:`~mmdet.visualization.SequenceVisualizer` for ``test_video.py --show`` and the video tools, and by
tools that display annotations. Input and output are arrays, independent of files and networks.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmdet.errors import UserError
from mmdet.registry import VISUALIZERS

from .colors import color_of
from .labels import label_texts, paint_plate, place_plates, plate_size
from .paint import Color, Style, paint_box, paint_mask, paint_trail, paint_uncertainty
from .rle_crop import crop_rles


@dataclass
class DrawnObject:
    """One object, ready to be painted at any scale. Coordinates are pixels of the original frame."""

    color: Color
    box: np.ndarray  # (4,) x1, y1, x2, y2
    texts: list[str]  # candidates for its label, the longest first
    encoded: Any = None  # its mask before decoding: RLE, or array of the size of the frame
    mask: np.ndarray | None = None  # (h, w) uint8 in {0, 1}
    mask_x: int = 0
    mask_y: int = 0
    uncertainty: np.ndarray | None = None  # (4,) in [0, 1]
    trail: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))  # (k, 2) centres, the oldest first


@VISUALIZERS.register_module()
class TrackVisualizer:
    """Draw objects in colours that depend on their ids only.

    Args:
        class_names: class names by 0-based label; a label without a name is shown as ``class 7``. None: no names.
        score_thr: objects with a score above it are drawn; annotated objects have no score and are always drawn.
        alpha: opacity of the tint of masks, in [0, 1].
        draw_masks, draw_contours, draw_boxes, draw_labels, draw_uncertainty: whether to draw these if they are known.
        trail_length: number of past frames in the trail of an object, 0 for none. With trails, draw each frame of a
            video once and in order, and call :meth:`reset` between videos.
        percent: show scores in percent, as ``87%`` instead of ``0.87``.
    """

    def __init__(
        self,
        class_names: Sequence[str] | None = None,
        score_thr: float = 0.5,
        alpha: float = 0.4,
        draw_masks: bool = True,
        draw_contours: bool = True,
        draw_boxes: bool = True,
        draw_labels: bool = True,
        draw_uncertainty: bool = False,
        trail_length: int = 0,
        percent: bool = False,
    ) -> None:
        if not 0 <= alpha <= 1:
            raise UserError(f'alpha {alpha} of the pictures is not between 0 and 1: choose for example 0.4')
        self.class_names = class_names
        self.score_thr = score_thr
        self.alpha = alpha
        self.draw_masks = draw_masks
        self.draw_contours = draw_contours
        self.draw_boxes = draw_boxes
        self.draw_labels = draw_labels
        self.draw_uncertainty = draw_uncertainty
        self.trail_length = trail_length
        self.percent = percent
        self.reset()

    def reset(self) -> None:
        """Delete the trails; to be called before a new video."""
        self._time = 0
        self._trails: dict[int, list[tuple[int, float, float]]] = {}  # (time, x, y) of the centre by id

    def draw(self, image: np.ndarray, instances: Any, scale: float = 1.0) -> np.ndarray:
        """Draw the objects on a copy of the frame.

        Args:
            image: (H, W, 3) uint8 BGR; not changed.
            instances: InstanceData or any object with some of the attributes ``bboxes`` (n, 4) x1, y1, x2, y2,
                ``scores`` (n,), ``labels`` (n,), ``instances_id`` (n,), ``masks`` (n RLE dicts, or (n, h, w) of 0 and
                1), ``uncertainties`` (n, 4); tensors or arrays. Boxes or masks are required.
            scale: pixels of ``image`` per pixel of ``instances``, for a picture smaller than the original.

        Returns:
            (H, W, 3) uint8 BGR; equal to ``image`` if there is nothing to draw.
        """
        return self.paint(image, self.prepare(instances), scale)

    def prepare(self, instances: Any) -> list[DrawnObject]:
        """Select the objects above the threshold, extend their trails and decode their masks; see :meth:`draw`."""
        return self.decode(self.select(instances))

    def select(self, instances: Any) -> list[DrawnObject]:
        """Do the part of :meth:`prepare` that depends on the frames before; it takes a small part of the time."""
        masks = getattr(instances, 'masks', None)
        if masks is not None and not isinstance(masks, (list, tuple)):
            masks = list(_as_array(masks, np.uint8))
        bboxes = _array(getattr(instances, 'bboxes', None), np.float64)
        scores = _array(getattr(instances, 'scores', None), np.float64)
        labels = _array(getattr(instances, 'labels', None), np.int64)
        ids = _array(getattr(instances, 'instances_id', None), np.int64)
        uncertainties = _array(getattr(instances, 'uncertainties', None), np.float64)

        count = len(bboxes) if bboxes is not None else len(masks) if masks is not None else 0
        shown = range(count) if scores is None else np.flatnonzero(scores > self.score_thr).tolist()
        boxes = bboxes if bboxes is not None else _mask_boxes(masks or [], shown)
        if not self.draw_uncertainty:
            uncertainties = None
        objects = []
        for i in shown:
            box = boxes[i]
            if box is None or not np.isfinite(box).all():
                continue
            uncertainty = None if uncertainties is None else uncertainties[i]
            if uncertainty is not None and not np.isfinite(uncertainty).all():
                uncertainty = None
            track_id = None if ids is None else int(ids[i])
            objects.append(DrawnObject(
                color=color_of(i if track_id is None else track_id),
                box=box,
                texts=label_texts(
                    track_id,
                    None if labels is None else self._name(int(labels[i])),
                    None if scores is None else float(scores[i]),
                    None if uncertainty is None else float(uncertainty.mean()),
                    self.percent),
                encoded=masks[i] if self.draw_masks and masks is not None else None,
                uncertainty=uncertainty,
                trail=self._extend_trail(track_id, box)))
        self._time += 1
        self._trails = {k: v for k, v in self._trails.items() if v[-1][0] > self._time - self.trail_length}
        return objects

    @staticmethod
    def decode(objects: list[DrawnObject]) -> list[DrawnObject]:
        """Decode the masks of the objects, and return the objects."""
        encoded = [obj for obj in objects if obj.encoded is not None]
        for obj, (mask, x, y) in zip(encoded, _crops([obj.encoded for obj in encoded])):
            obj.encoded, obj.mask, obj.mask_x, obj.mask_y = None, mask, x, y
        return objects

    def paint(self, image: np.ndarray, objects: list[DrawnObject], scale: float = 1.0) -> np.ndarray:
        """Draw prepared objects; see :meth:`draw`. The same objects can be painted at several scales."""
        check_picture(image)
        image = image.copy()
        self.paint_on(image, objects, scale)
        return image

    def paint_on(self, image: np.ndarray, objects: list[DrawnObject], scale: float = 1.0) -> None:
        """Decode the masks of selected objects where that was not done yet, and draw the objects in place."""
        self.decode(objects)
        style = Style.for_size(*image.shape[:2])
        contour = style.contour if self.draw_contours else 0
        with_masks = [(obj.mask, obj) for obj in objects if obj.mask is not None]
        for mask, obj in sorted(with_masks, key=lambda pair: -pair[0].size):  # small objects on top of large ones
            paint_mask(image, mask, obj.mask_x, obj.mask_y, obj.color, self.alpha, contour, scale)
        for obj in objects:
            if len(obj.trail):
                paint_trail(image, obj.trail * scale, obj.color, style.line)
            if obj.uncertainty is not None:
                paint_uncertainty(image, obj.box * scale, obj.uncertainty, obj.color, style.line)
            if self.draw_boxes:
                paint_box(image, obj.box * scale, obj.color, style.line)
        if self.draw_labels:
            self._paint_labels(image, objects, scale, style)

    def _paint_labels(self, image: np.ndarray, objects: list[DrawnObject], scale: float, style: Style) -> None:
        sizes = [[plate_size(text, style.font) for text in obj.texts] for obj in objects]
        places = place_plates([(obj.box * scale).tolist() for obj in objects], sizes, image.shape[:2])
        for obj, place in zip(objects, places):
            if place is not None:
                choice, x, y = place
                paint_plate(image, obj.texts[choice], x, y, style.font, obj.color)

    def _name(self, label: int) -> str | None:
        if self.class_names is None:
            return None
        return self.class_names[label] if 0 <= label < len(self.class_names) else f'class {label}'

    def _extend_trail(self, track_id: int | None, box: np.ndarray) -> np.ndarray:
        if not self.trail_length or track_id is None:
            return np.zeros((0, 2))
        trail = self._trails.get(track_id, [])
        trail = [point for point in trail if point[0] > self._time - self.trail_length]
        trail.append((self._time, *((box[:2] + box[2:]) / 2).tolist()))
        self._trails[track_id] = trail
        return np.array(trail)[:, 1:]


def check_picture(image: Any) -> None:
    """Raise UserError unless this is an array that objects can be drawn on."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        kind = f'{image.dtype} {image.shape}' if isinstance(image, np.ndarray) else type(image).__name__
        raise UserError(f'cannot draw on {kind}: give a uint8 BGR array of shape (height, width, 3)')


def _mask_boxes(masks: Sequence[Any], chosen: Sequence[int]) -> dict[int, np.ndarray | None]:
    """Return the boxes of the chosen masks by their index, None for an empty mask."""
    return {i: None if crop is None else np.array([x, y, x + crop.shape[1], y + crop.shape[0]], float)
            for i, (crop, x, y) in zip(chosen, _crops([masks[i] for i in chosen]))}


def _array(value: Any, dtype: type) -> np.ndarray | None:
    """Convert a value as :func:`_as_array` does; return None for None."""
    return None if value is None else _as_array(value, dtype)


def _as_array(value: Any, dtype: type) -> np.ndarray:
    """Convert a tensor (on any device), mask structure or array to an array of the given type."""
    if hasattr(value, 'detach'):
        value = value.detach().cpu().numpy()
    elif hasattr(value, 'to_ndarray'):
        value = value.to_ndarray()
    return np.asarray(value).astype(dtype, copy=False)


def _crops(masks: Sequence[Any]) -> list[tuple[np.ndarray | None, int, int]]:
    """Crop each mask (all RLEs or all arrays) to its object; return crop and upper left corner, None if it is empty."""
    if all(isinstance(mask, dict) for mask in masks):
        return [(crop if crop.size else None, x, y) for crop, x, y in crop_rles(masks)]
    return [_crop(mask) for mask in masks]


def _crop(mask: np.ndarray) -> tuple[np.ndarray | None, int, int]:
    """Crop a mask that is an array of the size of the frame, see :func:`_crops`."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return None, 0, 0
    x, y = int(columns[0]), int(rows[0])
    return np.ascontiguousarray(mask[y:rows[-1] + 1, x:columns[-1] + 1]), x, y
