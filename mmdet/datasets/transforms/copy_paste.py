"""Copy-paste of instances between the clips of a data set (Simple Copy-Paste, arXiv 2012.07177), for videos."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmdet.arguments import checked_count, checked_number, checked_range
from mmdet.datasets.packed_annotations import FrameObjects
from mmdet.datasets.transforms.frame_loading import LoadTrackAnnotations, LoadTrackFrames
from mmdet.datasets.transforms.geometry import keep_ratio_factor
from mmdet.datasets.transforms.objects import keep_objects, mask_areas, mask_extents, warp_image, warp_masks
from mmdet.errors import UserError
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class CopyPasteClip(BaseTransform):
    """Paste objects of a random other clip of the data set in front of the objects of this clip.

    The data set draws the other clip, from another video if it has several. A random number of the objects in its
    first frame are pasted, each with its own random scale, horizontal flip and place. This geometry is the same in all
    frames, so that an object moves in this clip as it did in its own; with ``motion``, it additionally moves at
    constant speed. Frame t shows the object of frame t of the other clip, and does not show it where that frame does
    not have it.

    The masks of all frames are those of the visible pixels: pixels of a pasted object are removed from the masks behind
    it, including those of objects pasted earlier. An object of which too little remains is removed from the frame. The
    boxes of objects that lost pixels and of pasted objects become the bounding boxes of their masks (x2 and y2
    inclusive); those of all others do not change. Ids of pasted objects are the integers above the largest id of the
    clip. OVIS's levels of occlusion are not part of training clips (only the evaluation reads them), so there are none
    to update.

    Placed before colour transforms, this one gives pasted objects the same distortion as the clip.

    Args:
        max_objects: largest number of pasted objects; the number is drawn uniformly from 1 to this.
        scale: range of the scale of an object, relative to the scale at which its clip fits within this one.
        motion: largest additional movement of an object from the first to the last frame, as a share of the width and
            of the height.
        flip_prob: probability of the flip.
        min_area: minimum number of visible pixels of an object in a frame.
        min_share: minimum share of the pixels of an object, visible before, that remain visible.
        prob: probability of pasting.

    Raises:
        UserError: an argument is out of range, or the clip is not one of a training data set of this project.
    """

    def __init__(self, max_objects: int = 3, scale: Sequence[float] = (.5, 1.5), motion: float = 0.,
                 flip_prob: float = .5, min_area: int = 16, min_share: float = .1, prob: float = .5) -> None:
        name = type(self).__name__
        self.max_objects = checked_count(f'{name}.max_objects', max_objects, 1)
        self.scale = checked_range(f'{name}.scale', scale, .01, 100)
        self.motion = checked_number(f'{name}.motion', motion, 0, 1)
        self.flip_prob = checked_number(f'{name}.flip_prob', flip_prob, 0, 1)
        self.min_area = checked_count(f'{name}.min_area', min_area, 1)
        self.min_share = checked_number(f'{name}.min_share', min_share, 0, 1)
        self.prob = checked_number(f'{name}.prob', prob, 0, 1)
        self.load = (LoadTrackFrames(), LoadTrackAnnotations())

    def transform(self, results: dict) -> dict:
        rng, frames = results['rng'], results['frames']
        if 'gt_masks' not in frames[0]:
            raise UserError('CopyPasteClip needs the masks of the clip; put LoadTrackAnnotations before it')
        draw_clip: Callable[[np.random.Generator], list[dict]] | None = results.get('draw_clip')
        if draw_clip is None:
            raise UserError('CopyPasteClip works in the training pipelines of YVISDataset, OVISDataset and COCOVIS '
                            'only; remove it from this pipeline')
        if rng.random() >= self.prob:
            return results
        source = draw_clip(rng)
        present = source[0]['objects'].instances_id
        if not len(present):
            return results
        count = min(int(rng.integers(1, self.max_objects + 1)), len(present))
        chosen = rng.permutation(present)[:count]
        for frame in source:  # before loading, so that only these masks are decoded
            frame['objects'] = _only(frame['objects'], chosen)
        for step in self.load:
            step.transform({'frames': source})
        first_id = max((int(ident) for frame in frames for ident in frame['gt_instances_id']), default=-1) + 1
        ids = {int(ident): first_id + number for number, ident in enumerate(chosen)}
        poses = {int(ident): self._pose(source[0], int(ident), frames[0]['img_shape'], rng) for ident in chosen}
        for number, (frame, other) in enumerate(zip(frames, source)):
            self._paste(frame, other, poses, ids, number / max(len(frames) - 1, 1))
        return results

    def _pose(self, source: dict, ident: int, size: tuple[int, int], rng: np.random.Generator,
              ) -> tuple[np.ndarray, np.ndarray]:
        """Draw the map (2, 3) from the first frame of the other clip to this one, and the motion (x, y) in pixels.

        The centre of the object's box becomes a point that is uniform in the image.
        """
        height, width = size
        own_height, own_width = source['img_shape']
        factor = keep_ratio_factor(own_height, own_width, (max(size), min(size))) * rng.uniform(*self.scale)
        linear = np.diag([-factor if rng.random() < self.flip_prob else factor, factor])
        box = source['gt_bboxes'][source['gt_instances_id'] == ident][0]
        target = rng.uniform(0, (width - 1, height - 1))
        motion = rng.uniform(-self.motion, self.motion, 2) * (width, height)
        return np.column_stack([linear, target - linear @ ((box[:2] + box[2:]) / 2)]), motion

    def _paste(self, frame: dict, source: dict, poses: dict[int, tuple[np.ndarray, np.ndarray]], ids: dict[int, int],
               time: float) -> None:
        """Paste the objects of one frame of the other clip.

        Args:
            frame: modified.
            source: frame of the other clip.
            poses: see :meth:`_pose`, by the id of the object in the other clip, from back to front.
            ids: id in this clip of each of them.
            time: time of the frame, from 0 to 1 over the clip.
        """
        size, image = frame['img_shape'], np.array(frame['img'], order='C')
        masks, labels, new_ids = [], [], []
        for ident, (matrix, motion) in poses.items():
            at = np.flatnonzero(source['gt_instances_id'] == ident)
            if not len(at):
                continue
            moved = matrix + np.column_stack([np.zeros((2, 2)), motion * time])
            mask = np.zeros(size, np.uint8)
            place = _place(source['gt_masks'][at], moved, size)
            shape = mask[place].shape
            if 0 in shape:
                continue
            moved[:, 2] -= (place[1].start, place[0].start)
            mask[place] = warp_masks(source['gt_masks'][at], moved, shape)[0]
            if mask.sum() < self.min_area:
                continue
            # without a colour outside, which would darken the edge of an object that the border of its image cuts
            image[place] = cv2.copyTo(warp_image(source['img'], moved, shape, None), mask[place], image[place])
            masks.append(mask)
            labels.append(source['gt_labels'][at[0]])
            new_ids.append(ids[ident])
        if not masks:
            return
        whole = np.concatenate([frame['gt_masks'], masks])
        frame.update(img=image, gt_masks=whole.copy(),
                     gt_labels=np.append(frame['gt_labels'], np.array(labels, np.int64)),
                     gt_instances_id=np.append(frame['gt_instances_id'], np.array(new_ids, np.int64)),
                     gt_bboxes=np.concatenate([frame['gt_bboxes'], mask_extents(np.stack(masks))]))
        for number in range(-len(masks), 0):  # the last is in front
            frame['gt_masks'][:number] &= 1 - frame['gt_masks'][number]
        before, areas = mask_areas(whole), mask_areas(frame['gt_masks'])
        cut = areas < before
        frame['gt_bboxes'][cut] = mask_extents(frame['gt_masks'][cut])
        keep_objects(frame, ~cut | (areas >= np.maximum(before * self.min_share, self.min_area)))


def _place(masks: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> tuple[slice, slice]:
    """Return rows and columns of an image that contain a mask (1, h, w) after a scaling, flip and translation."""
    x1, y1, x2, y2 = mask_extents(masks)[0]
    corners = matrix @ [[x1, x2], [y1, y2], [1, 1]]
    margin = np.abs(np.diag(matrix)) + 1  # pixels of the mask are as wide as its scale
    low, high = np.floor(corners.min(axis=1) - margin), np.ceil(corners.max(axis=1) + margin)
    (left, top), (right, bottom) = np.clip([low, high], 0, size[::-1]).astype(int).tolist()
    return slice(top, bottom), slice(left, right)


def _only(objects: FrameObjects, ids: np.ndarray) -> FrameObjects:
    """Return the objects of a frame with the given ids."""
    kept = np.flatnonzero(np.isin(objects.instances_id, ids))
    return replace(objects, bboxes=objects.bboxes[kept], labels=objects.labels[kept],
                   instances_id=objects.instances_id[kept], rles=[objects.rles[index] for index in kept])
