"""Check videos given as arrays, and convert their frames to (H, W, 3) uint8 BGR images.

Called by :func:`mmdet.video.source.open_video` and :meth:`mmdet.apis.VideoInferencer.track`.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np
import torch

from mmdet.errors import UserError

_WANTED = 'give uint8 BGR arrays of shape (height, width, 3)'


def check_video_array(video: Any) -> None:
    """Raise UserError unless the value can be a video: an iterable of images, or an array of several images.

    A single image is refused, since its rows would be read as frames.
    """
    if not isinstance(video, Iterable):
        raise UserError('a video is a path, a camera number or an iterable of arrays, not '
                        f'{type(video).__name__}')
    if isinstance(video, (bytes, bytearray, memoryview)):
        raise UserError(f'a video is a path, a camera number or an iterable of arrays, not {type(video).__name__}: '
                        'write the bytes to a file and give its path')
    if isinstance(video, (Mapping, Set)):
        raise UserError(f'a video is an iterable of arrays in order, not a {type(video).__name__}; give a list')
    shape = getattr(video, 'shape', None)
    if shape is None:
        if isinstance(video, (list, tuple)) and video:
            _check_image(_as_array(video[0], 0), 0)
        return
    shape = tuple(shape)
    # (height, width), (height, width, channels), or (channels, height, width)
    if len(shape) == 2 or (len(shape) == 3 and (shape[2] <= 4 or shape[0] in (3, 4))):
        raise UserError(f'the video is one array of shape {shape}, which is a single image; give a list of frames, '
                        '[image], or an array of shape (frames, height, width, 3)')
    if len(shape) not in (3, 4):
        raise UserError(f'the video is one array of shape {shape}; give an array of shape (frames, height, width, 3) '
                        'or a list of frames')
    if len(video) > 0:  # type: ignore[arg-type]
        _check_image(_as_array(video[0], 0), 0)  # type: ignore[index]


def bgr_image(frame: Any, index: int) -> np.ndarray:
    """Copy a frame, an array or tensor (H, W, 3) BGR or (H, W) grey uint8, to an array (H, W, 3) BGR.

    Args:
        frame: frame of the video, whose memory may be reused afterwards.
        index: number of the frame, for messages.

    Raises:
        UserError: the frame has another type or shape.
    """
    image = _as_array(frame, index)
    _check_image(image, index)
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else np.array(image, order='C')


def _as_array(frame: Any, index: int) -> np.ndarray:
    if isinstance(frame, torch.Tensor):
        # NumPy has no bfloat16
        return (frame.float() if frame.dtype == torch.bfloat16 else frame).numpy(force=True)
    if isinstance(frame, (np.ndarray, list, tuple)):
        try:
            return np.asarray(frame)
        except ValueError as error:
            raise UserError(f'frame {index} is a {type(frame).__name__} of rows of unequal length; {_WANTED}'
                            ) from error
    if type(frame).__module__.startswith('PIL.'):
        raise UserError(f'frame {index} is a PIL image, in RGB order; give '
                        "np.asarray(image.convert('RGB'))[..., ::-1]")
    if hasattr(frame, '__fspath__') or isinstance(frame, str):
        raise UserError(f'frame {index} is a path; give the folder or a glob of the images as the video, or arrays as '
                        'cv2.imread returns them')
    raise UserError(f'frame {index} is of type {type(frame).__name__}; {_WANTED}')


def _check_image(image: np.ndarray, index: int) -> None:
    shape = image.shape
    what = f'frame {index} is an array of {image.dtype} {shape}'
    if image.size == 0 or image.ndim not in (2, 3):
        raise UserError(f'{what}; {_WANTED}')
    if image.ndim == 2 and shape[1] == 3:  # (W, 3) of an (H, W, 3) image
        raise UserError(f'{what}, which looks like a row of an image; give the images themselves, a list of frames')
    if image.ndim == 3 and shape[2] != 3:
        remedy = {1: 'give frame[..., 0]', 4: 'give frame[..., :3]'}.get(shape[2])
        if remedy is None and shape[0] == 3:
            remedy = 'give frame.transpose(1, 2, 0)'
        raise UserError(f'{what}; {remedy + ", of shape (height, width, 3) or (height, width)" if remedy else _WANTED}')
    if image.dtype != np.uint8:
        raise UserError(f'{what}; {_WANTED}, with values from 0 to 255')
