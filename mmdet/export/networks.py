"""The part of a detector that is exported: a module from tensors to tensors, for one frame.

Decoding, resizing and normalisation of frames before it, and masks at the original size, tracking and run-length
encoding after it, remain in Python.

Symbols: H×W padded input, D detections, S candidates, K classes, Q queries, C channels.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmdet.errors import UserError
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.detectors import VidEoMT
from mmdet.models.detectors.single_stage import SingleStageDetector


class FrameNetwork(nn.Module):
    """Base class.

    Attributes:
        inputs, outputs: names of the tensors.
        least: smallest height and width in pixels for which the sizes may be symbolic.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    least: int

    def example(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return values of all inputs for images (1, 3, H, W)."""
        raise NotImplementedError

    def entries(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """Return those parts of the outputs, (n, …) each, that are not padding, for a comparison."""
        raise NotImplementedError


class OneStageNetwork(FrameNetwork):
    """Backbone, neck and head of FCOS, SipMask or MemCNP, with the selection of candidates and Fast NMS.

    Inputs are ``images`` (1, 3, H, W), normalised, and, for heads that clip boxes to the frame, ``img_shape`` (1, 2),
    its height and width without padding. Outputs are ``rows`` (1, D, …) and ``masks`` (1, D, H/2, W/2), see
    :class:`~mmdet.models.dense_heads.base_dense_head.DeviceDetections`; for FCOS, whose NMS has no fixed number of
    steps, ``bboxes`` (1, S, 4), ``probabilities`` (1, S, K) and ``centerness`` (1, S).

    Args:
        detector: the detector.
    """

    def __init__(self, detector: SingleStageDetector) -> None:
        super().__init__()
        self.detector = detector
        self.head: BaseDenseHead = detector.bbox_head
        if self.head.initial_state() is not None:
            raise UserError('a memory with units of each video cannot be exported: export with --cfg-options '
                            'model.bbox_head.memory.online_memory=None or, instead of a model with '
                            'bbox_head.video_memory, one that was trained without it')
        self.inputs = ('images', 'img_shape') if self.head.clips_to_frame else ('images',)
        self.outputs = self.head.selected
        self.least = 32 + max(32, *self.head.strides)  # maps of one row or column need other code

    def forward(self, images: Tensor, img_shape: Tensor | None = None) -> tuple[Tensor, ...]:
        shapes = images.new_zeros(1, 2) if img_shape is None else img_shape
        return self.head.select(self.head.forward(self.detector.extract_feat(images)), shapes)

    def example(self, images: Tensor) -> tuple[Tensor, ...]:
        shape = images.new_tensor([[images.shape[-2] - 7, images.shape[-1] - 3]])  # with some padding
        return (images, shape) if self.head.clips_to_frame else (images,)

    def entries(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        if self.outputs == ('rows', 'masks'):
            kept = outputs[0][0, :, 4] > 0
        else:
            kept = outputs[1][0].amax(dim=1) > 0
        return [output[0][kept] for output in outputs]


class QueryNetwork(FrameNetwork):
    """VidEoMT with its queries as state.

    Inputs are ``images`` (1, 3, H, W), normalised, ``queries`` (1, Q, C), those that the previous frame returned, and
    ``first`` (1,), 1 for the first frame of a video, for which ``queries`` is ignored, else 0. Outputs are
    ``class_logits`` (1, Q, K + 1), ``mask_logits`` (1, Q, H/4, W/4) and ``next_queries`` (1, Q, C).

    Args:
        detector: the detector.
    """

    inputs = ('images', 'queries', 'first')
    outputs = ('class_logits', 'mask_logits', 'next_queries')
    least = 64

    def __init__(self, detector: VidEoMT) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor, queries: Tensor, first: Tensor) -> tuple[Tensor, ...]:
        before = torch.where(first > 0, self.detector.head.first_queries(1), queries)
        outputs = self.detector.run_clips(images[:, None], before)
        return outputs.class_logits[:, 0], outputs.mask_logits[:, 0], outputs.queries

    def example(self, images: Tensor) -> tuple[Tensor, ...]:
        queries = self.detector.head.first_queries(1).detach()
        return images, queries + 0.1 * queries.flip(1), images.new_zeros(1)

    def entries(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        return [output[0] for output in outputs]


def detector_name(detector: nn.Module) -> str:
    """Return the names of the classes of a detector and its head, by which a file is compared with a config."""
    head = getattr(detector, 'bbox_head', None)
    return type(detector).__name__ + (f' with {type(head).__name__}' if head is not None else '')


def frame_network(detector: nn.Module) -> FrameNetwork:
    """Return the part of a detector that is exported, in evaluation mode.

    Raises:
        UserError: this kind of detector cannot be exported.
    """
    if isinstance(detector, VidEoMT):
        return QueryNetwork(detector).eval()
    if isinstance(detector, SingleStageDetector):
        return OneStageNetwork(detector).eval()
    raise UserError(f'{type(detector).__name__} cannot be exported; choose a config of MemCNP, SipMask, FCOS or '
                    'VidEoMT')
