"""MemCNP-VIS and other one-stage online models: backbone → neck → dense head → tracker.

Built from a config by name; called by mmengine's runner in training and testing.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, islice

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserError
from mmdet.models.cuda_graphs import TrainingGraphs, uses_training_graphs
from mmdet.models.dense_heads.base_dense_head import DeviceDetections, FrameGeometry
from mmdet.models.detectors.single_stage import SingleStageDetector
from mmdet.models.task_modules.padded_targets import PaddedTargets
from mmdet.ops.device import Launched
from mmdet.registry import MODELS
from mmdet.structures import StreamState, TrackDataSample

_GRAPH_OBJECTS = 4  # for graphs, the number of objects is padded to this times a power of two: few shapes, few graphs
# detections of clips of one geometry, their geometry, the lengths of the clips, and the work that computes them
_LaunchedClips = tuple[DeviceDetections, FrameGeometry, list[int], Launched]


@MODELS.register_module()
class SipMaskMem(SingleStageDetector):
    """One-stage detector, segmenter and tracker.

    Args:
        backbone, neck, bbox_head, tracker: configs. The head is a ``BaseDenseHead``; the tracker has ``new_state()``
            and ``track(instances, state)``.
        cuda_graphs: see :class:`SingleStageDetector`.
        graph_training: on a GPU, replay the fixed-shape parts of a training step as CUDA graphs. Faster where steps are
            limited by kernel launches, if few sizes of batches occur (``pad_buckets`` of the data preprocessor). Cannot
            be combined with ``with_cp``. ``'auto'``: unless a module has ``with_cp`` or updates statistics of a batch
            norm.
        data_preprocessor: config.
        init_cfg: mmengine's.
    """

    learns_from_pairs = True

    def __init__(self, backbone: dict, neck: dict, bbox_head: dict, tracker: dict, cuda_graphs: bool = True,
                 graph_training: bool | str = False, data_preprocessor: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(backbone, neck, bbox_head, tracker, data_preprocessor, init_cfg, cuda_graphs)
        self.graph_training = graph_training
        self._training_graphs = TrainingGraphs()
        if graph_training not in (True, False, 'auto'):
            raise UserError(f'{type(self).__name__} graph_training={graph_training!r} is neither True, False nor '
                            "'auto'")
        if graph_training is True and any(getattr(module, 'with_cp', False) for module in self.modules()):
            raise UserError(f'{type(self).__name__} graph_training=True and with_cp=True cannot be combined: set '
                            'model.backbone.with_cp=False (faster) or model.graph_training=False (less memory)')

    def loss(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> dict[str, Tensor]:
        """Compute the losses of N key/reference pairs (T = 2)."""
        images = inputs.transpose(0, 1).flatten(0, 1)  # all key frames, then all reference frames
        graphed = uses_training_graphs(self, self.graph_training)
        graph_head = graphed and self.bbox_head.fixed_shape
        objects = [[clip[frame].gt_instances for clip in data_samples] for frame in (0, 1)]
        at_least = _graph_objects(objects) if graph_head else 1
        keys, references = (PaddedTargets.from_instances(instances, with_masks, at_least)
                            for instances, with_masks in zip(objects, (True, False)))
        graphs = self._training_graphs
        feats = graphs.run(self.extract_feat, images) if graphed else self.extract_feat(images)
        if graph_head:
            return graphs.run(self.bbox_head.loss, feats, keys, references)
        return self.bbox_head.loss(feats, keys, references)

    def _detect(self, images: Tensor, geometry: FrameGeometry, state: Tensor | None = None) -> DeviceDetections:
        return self.bbox_head.predict(self.extract_feat(images), [geometry] * len(images), state)

    def _launch(self, images: Tensor, geometry: FrameGeometry, *state: Tensor) -> DeviceDetections:
        if self.cuda_graphs:
            return self._graphs.run(self._detect, images, geometry, *state)
        return self._detect(images, geometry, *state)

    def detect_in_streams(self, inputs: Tensor, data_samples: list[TrackDataSample],
                          states: Sequence[StreamState | None]) -> Iterator[list[InstanceData]]:
        """Detect objects; frame by frame if the head carries a state through a video, else as :meth:`detect`."""
        initial = self.bbox_head.initial_state()
        if initial is None:
            return self.detect(inputs, data_samples)
        launched: list[_LaunchedClips] = []
        for images, clip, state in zip(inputs, data_samples, states, strict=True):
            assert state is not None  # the detector has a tracker
            for image, frame in zip(images[:, None], clip, strict=True):
                geometry = FrameGeometry.of(frame)
                before = None if frame.frame_id == 0 else state.network
                found = self._launch(image, geometry, initial if before is None else before.to(image.device))
                state.network = found.state
                launched.append((found, geometry, [1], Launched(image.device)))
        frames = self._read(launched)
        return ([instances for one in islice(frames, len(clip)) for instances in one] for clip in data_samples)

    def detect(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> Iterator[list[InstanceData]]:
        """Detect objects in the frames of consecutive clips of equal geometry at once."""
        launched: list[_LaunchedClips] = []
        for geometry, group in groupby(zip(inputs, data_samples), lambda pair: FrameGeometry.of(pair[1][0])):
            clips = [images for images, _ in group]
            images = torch.cat(clips) if len(clips) > 1 else clips[0]
            found = self._launch(images, geometry)
            launched.append((found, geometry, [len(clip) for clip in clips], Launched(images.device)))
        return self._read(launched)

    def _read(self, launched: Sequence[_LaunchedClips]) -> Iterator[list[InstanceData]]:
        for found, geometry, lengths, work in launched:
            with work.results():
                detections = iter(self.bbox_head.results(found, [geometry] * sum(lengths)))
            for length in lengths:
                yield list(islice(detections, length))


def _graph_objects(frames: Sequence[Sequence[InstanceData]]) -> int:
    """Return the number to which the objects of key and reference frames are padded, the same for both."""
    most = max(len(instances.bboxes) for images in frames for instances in images)
    padded = _GRAPH_OBJECTS
    while padded < most:
        padded *= 2
    return padded


# SipMask-VIS is the same detector with another head; published configs use both names
SipMask = MODELS.register_module(name='SipMask', module=SipMaskMem)
