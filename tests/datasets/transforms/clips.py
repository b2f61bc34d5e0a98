"""Synthetic clips for tests of transforms: white rectangles on black, so that image and masks can be compared."""
import numpy as np


def rectangle_clip(*rectangles, size=(60, 80), frames=2, seed=0, idents=None, colour=255):
    """Return a clip whose frames all show the same rectangles x, y, width, height, the later ones in front.

    Object i has the label i and the id 10 + i, or ``idents[i]``.
    """
    masks = np.zeros((len(rectangles), *size), np.uint8)
    for mask, (x, y, width, height) in zip(masks, rectangles):
        mask[y:y + height, x:x + width] = 1
    for number in range(len(masks) - 1):
        masks[number][masks[number + 1:].any(0)] = 0
    image = np.repeat(masks.any(0)[..., None] * colour, 3, axis=2).astype(np.uint8)
    labels = np.arange(len(masks))
    return {'rng': np.random.default_rng(seed), 'frames': [
        {'img': image.copy(), 'img_shape': size, 'ori_shape': size, 'scale_factor': 1., 'flip': False,
         'gt_masks': masks.copy(), 'gt_labels': labels.copy(),
         'gt_bboxes': np.array([(x, y, x + w - 1, y + h - 1) for x, y, w, h in rectangles], np.float32).reshape(-1, 4),
         'gt_instances_id': labels + 10 if idents is None else np.array(idents)} for _ in range(frames)]}


def check_frame(frame, bright=127):
    """Check sizes, unique ids, disjoint masks, boxes around masks, and that image and masks show the same objects."""
    count = len(frame['gt_labels'])
    assert frame['img'].shape[:2] == frame['gt_masks'].shape[1:] == tuple(frame['img_shape'])
    assert len(frame['gt_instances_id']) == len(set(frame['gt_instances_id'].tolist())) == count
    assert len(frame['gt_bboxes']) == len(frame['gt_masks']) == count
    assert frame['gt_masks'].sum(0).max(initial=0) <= 1
    for mask, box in zip(frame['gt_masks'], frame['gt_bboxes']):
        rows, columns = np.nonzero(mask)
        assert box.tolist() == [columns.min(), rows.min(), columns.max(), rows.max()]
    if bright is not None:
        shown = frame['img'].min(axis=2) > bright
        outline = sum(2 * (box[2] - box[0] + box[3] - box[1] + 2) for box in frame['gt_bboxes'])
        assert (shown ^ frame['gt_masks'].any(0)).sum() <= outline  # interpolation changes the outline only


def equal_frames(first, second):
    return all(np.array_equal(first[name], second[name])
               for name in ('img', 'gt_masks', 'gt_bboxes', 'gt_labels', 'gt_instances_id'))
