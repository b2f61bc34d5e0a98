"""First transforms of the pipelines: decode the image files and masks of a clip, in the workers of the data loader."""
from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from torch.utils.data import get_worker_info

from mmdet.errors import UserError
from mmdet.registry import TRANSFORMS
from mmdet.structures.masks import decode_masks

FLOAT_FORMATS = ('.tif', '.tiff', '.exr', '.hdr', '.pfm')  # that may hold floating-point values


class BadFrameError(UserError):
    """A frame's image file is missing, damaged or of the wrong size."""


def read_frame(path: str, height: int | None = None, width: int | None = None) -> np.ndarray:
    """Read an image of any format that OpenCV supports: grey, RGB, RGBA or palette; 8 or 16 bits.

    The EXIF orientation is applied only if the stored size differs from that in the annotation file.

    Args:
        path: image file.
        height, width: size in the annotation file; None: any size, and the EXIF orientation is applied.

    Returns:
        (H, W, 3) uint8, BGR.

    Raises:
        BadFrameError: the file is missing, truncated, not an image, or of another size.
        UserError: the image has floating-point values.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise BadFrameError(f'cannot read the image {path}: {error.strerror}; restore the file') from None
    if height is None:
        return _decode(data, cv2.IMREAD_COLOR, path)
    image = _decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, path)
    if image.shape[:2] != (height, width):
        turned = _decode(data, cv2.IMREAD_COLOR, path)
        if turned.shape[:2] != (height, width):
            raise BadFrameError(f'the image {path} has {image.shape[1]}x{image.shape[0]} pixels, the annotation file '
                                f'says {width}x{height}; use the images that belong to the annotations')
        image = turned
    return image


def _decode(data: np.ndarray, flags: int, path: str) -> np.ndarray:
    try:
        image = cv2.imdecode(data, flags) if len(data) else None
    except cv2.error:
        image = None
    if path.lower().endswith(FLOAT_FORMATS) and len(data):
        try:
            stored = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        except cv2.error:
            stored = None
        if stored is not None and stored.dtype.kind == 'f':
            raise UserError(f'the image {path} holds floating-point values, which have no fixed range; convert it to '
                            '8 or 16 bits')
    if image is None:
        raise BadFrameError(f'the image {path} is damaged or cut off ({len(data)} bytes); restore the file')
    return image


@TRANSFORMS.register_module()
class LoadTrackFrames(BaseTransform):
    """Read the images of a clip.

    Adds to each frame ``img`` (H, W, 3) uint8 BGR, ``ori_shape`` and ``img_shape`` (h, w), ``scale_factor`` 1.0 and
    ``flip`` False. An unreadable frame raises an error unless the clip has a function ``on_bad_frame``: then that is
    called with the error, the image is black and the frame has ``bad_frame`` True.

    Args:
        keep_original: also keep ``ori_img``, the image before all transforms, for visualisation.
    """

    def __init__(self, keep_original: bool = False) -> None:
        self.keep_original = keep_original

    def transform(self, results: dict) -> dict:
        if get_worker_info() is not None:
            cv2.setNumThreads(0)  # there are as many workers as cores
        for frame in results['frames']:
            try:
                frame['img'] = read_frame(frame['img_path'], frame.get('height'), frame.get('width'))
            except BadFrameError as error:
                if results.get('on_bad_frame') is None:
                    raise
                results['on_bad_frame'](error)
                frame.update(img=np.zeros((frame['height'], frame['width'], 3), np.uint8), bad_frame=True)
            shape = frame['img'].shape[:2]
            frame.update(ori_shape=shape, img_shape=shape, scale_factor=1., flip=False)
            if self.keep_original:
                frame['ori_img'] = frame['img']
        return results


@TRANSFORMS.register_module()
class LoadTrackAnnotations(BaseTransform):
    """Decode the ``objects`` of each frame.

    Adds ``gt_bboxes`` (n, 4) float32 x1, y1, x2, y2, ``gt_labels`` (n,) int64 0-based, ``gt_instances_id`` (n,) int64
    and ``gt_masks`` (n, H, W) uint8 in {0, 1}, whose memory layout is column-major, as RLE is decoded.
    """

    def transform(self, results: dict) -> dict:
        for frame in results['frames']:
            objects = frame['objects']
            height, width = frame['ori_shape']
            masks = decode_masks(objects.rles) if objects.rles else np.zeros((0, height, width), np.uint8)
            frame.update(gt_bboxes=objects.bboxes, gt_labels=objects.labels, gt_instances_id=objects.instances_id,
                         gt_masks=masks)
        return results
