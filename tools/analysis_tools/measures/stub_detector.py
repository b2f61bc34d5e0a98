"""A detector without a network, for tests and benchmarks of the other parts: streams, files, drawing."""
from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask
from torch import nn

from mmdet.structures import StreamState, TrackDataSample

_PIPELINE = [dict(type='LoadTrackFrames'), dict(type='ResizeClip', scale=(960, 480)), dict(type='PackTrackInputs')]


class StubDetector(nn.Module):
    """Detects squares that move in a circle; has the interface that ``VideoInferencer`` expects from ``init_model``.

    Object i has id i, label i modulo the number of classes and score 1 / (i + 1).

    Args:
        objects: number of objects in each frame.
        classes: names of the classes.
        seconds: time for a frame, during which the CPU is idle, as during computations of a GPU.
        context: number of frames of context on either side of a clip.
    """

    def __init__(self, objects: int = 5, classes: Sequence[str] = ('disc', 'square', 'triangle'), seconds: float = 0.0,
                 context: int = 0) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))
        self.objects, self.seconds = objects, seconds
        self.cfg = Config(dict(test_dataloader=dict(dataset=dict(pipeline=_PIPELINE, context=context))))
        self.dataset_meta = dict(classes=tuple(classes), cat_ids=tuple(range(11, 11 + len(classes))))
        self.clips: list[list[tuple[int, bool]]] = []  # (frame_id, is_context) of the clips of the last call
        self.input_shape: tuple[int, ...] = ()

    def new_stream(self) -> StreamState:
        """Return a state with nothing but the position in the video, because the ids do not depend on it."""
        return StreamState()

    def test_step(self, data: dict) -> list[TrackDataSample]:
        """Return the sample of one clip with results, as mmengine's models do.

        Args:
            data: ``inputs`` and ``data_samples``, two lists with the images and the sample of the clip.
        """
        images, = data['inputs']
        clip, = data['data_samples']
        self.input_shape = tuple(images.shape)
        self.clips = [*self.clips[-9:], [(frame.frame_id, frame.get('is_context', False)) for frame in clip]]
        time.sleep(self.seconds * len(clip))
        result = TrackDataSample()
        result.video_data_samples = [frame for frame in clip if not frame.get('is_context', False)]
        for frame in result:
            frame.pred_track_instances = self._objects(frame.frame_id, *frame.ori_shape)
        return [result]

    def _objects(self, frame_id: int, height: int, width: int) -> InstanceData:
        index = np.arange(self.objects)
        angle = index + 0.02 * frame_id
        size = np.maximum(min(height, width) / (6 + index), 2)
        x = (0.5 + 0.3 * np.cos(angle)) * width - size / 2
        y = (0.5 + 0.3 * np.sin(angle)) * height - size / 2
        boxes = np.stack([x, y, size, size], axis=1).round()
        masks = coco_mask.frPyObjects(boxes, height, width) if self.objects else []
        boxes[:, 2:] += boxes[:, :2]
        return InstanceData(
            bboxes=torch.from_numpy(boxes.astype(np.float32)), scores=torch.from_numpy(1 / (index + 1)).float(),
            labels=torch.from_numpy(index % len(self.dataset_meta['classes'])), instances_id=torch.from_numpy(index),
            masks=masks)
