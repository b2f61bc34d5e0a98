"""Annotations and results of videos of squares, whose overlaps are easy to compute."""
import numpy as np

from mmdet.structures.masks import encode_masks

SIZE = 200
NONE = None


def square(x, y=0, side=20):
    """Return the RLE of a square in the form of JSON files."""
    mask = np.zeros((1, SIZE, SIZE), np.uint8)
    mask[0, y:y + side, x:x + side] = 1
    rle = encode_masks(mask)[0]
    return dict(size=rle['size'], counts=rle['counts'].decode())


def annotation(number, frames, category=1, video=1, **extra):
    return dict(id=number, video_id=video, category_id=category, segmentations=frames, iscrowd=0, **extra)


def prediction(frames, score=.9, category=1, video=1, **extra):
    return dict(video_id=video, category_id=category, score=score, segmentations=frames, **extra)


def truth(*annotations, videos=(1,), categories=(1,), length=2):
    return dict(videos=[dict(id=i, height=SIZE, width=SIZE, length=length) for i in videos],
                categories=[dict(id=i, name=f'class {i}') for i in categories], annotations=list(annotations))
