"""Base class of the dense heads: test settings, weight initialisation, conversion of detections to results.

A head (FCOS, SipMask, MemCNP) is one module: ``forward`` computes the raw outputs in training and testing; ``loss``
computes the losses from them; ``predict`` converts them to :class:`DeviceDetections` of fixed size on the device, so
that testing can be replayed as a CUDA graph; :meth:`BaseDenseHead.results` copies those to the host once.

Symbols: B frames, D detections per frame, H0×W0 original frames.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.arguments import checked_count, checked_number, checked_settings
from mmdet.checkpoint import ClassRows
from mmdet.errors import UserError
from mmdet.models.task_modules.padded_targets import PaddedTargets
from mmdet.ops.device import is_capturing
from mmdet.ops.mask_resize import mask_resize
from mmdet.structures import DetDataSample
from mmdet.structures.device_rle import columns_to_rle
from mmdet.structures.instances import make_instances

MASK_STRIDE = 2  # pixels of the input per pixel of the mask maps
_NMS = ('per_class', 'agnostic')
_PUBLISHED_KEYS = {'max_pre_nms': 'nms_pre'}  # key in published configs → key here


@dataclass
class TestSettings:
    """A head's ``test_cfg``.

    Attributes:
        nms_pre: maximum number of candidates per level and, in Fast NMS, per class.
        score_thr: detections with a score of at most this are dropped.
        nms_thr: boxes whose IoU with a higher-scoring box of the same class exceeds this are dropped.
        max_per_img: maximum number of detections per frame.
        nms: ``'per_class'``, as published: one box may be detected under several classes, and so may one object, which
            AP rewards; ``'agnostic'``: each box has its best class only, and ``nms_thr`` applies to boxes of any
            class, so that an object is found once.
        quality_exponent: of heads with masks: scores are multiplied by the quality of the mask to this power, see
            :func:`rescore_by_masks`, after ``score_thr`` and NMS. 0, as published: not at all.
    """

    __test__ = False  # pytest: not a test class

    nms_pre: int
    score_thr: float
    nms_thr: float
    max_per_img: int
    nms: str = 'per_class'
    quality_exponent: float = 0.0

    @property
    def agnostic(self) -> bool:
        return self.nms == 'agnostic'

    @classmethod
    def of(cls, head: str, test_cfg: dict | None, **values: float) -> TestSettings:
        """Create the settings from a config and the head's defaults.

        Raises:
            UserError: if the config has unknown keys or a value out of range.
        """
        defaults: dict[str, Any] = values | {'nms': 'per_class'}
        given = {_PUBLISHED_KEYS.get(key, key): value for key, value in (test_cfg or {}).items()}
        settings = cls(**{**defaults, **checked_settings(f'{head} test_cfg', given, list(defaults))})
        if settings.nms not in _NMS:
            raise UserError(f'{head} test_cfg nms={settings.nms!r} is unknown; use one of {", ".join(_NMS)}')
        for name in ('nms_pre', 'max_per_img'):
            checked_count(f'{head} test_cfg {name}', getattr(settings, name), 1)
        for name in ('score_thr', 'nms_thr'):
            checked_number(f'{head} test_cfg {name}', getattr(settings, name), 0, 1)
        checked_number(f'{head} test_cfg quality_exponent', settings.quality_exponent, 0)
        return settings


class FrameGeometry(NamedTuple):
    """Sizes of a frame: ``scale_factor`` (input pixels per original pixel), ``img_shape`` and ``ori_shape`` (h, w)."""

    scale_factor: float
    img_shape: tuple[int, int]
    ori_shape: tuple[int, int]

    @classmethod
    def of(cls, frame: DetDataSample) -> FrameGeometry:
        """Read the geometry of a sample."""
        return cls(frame.scale_factor, tuple(frame.img_shape[:2]), tuple(frame.ori_shape[:2]))


class DeviceDetections(NamedTuple):
    """Detections of B frames on the device.

    Attributes:
        rows: (B, D, …) float32: box in input pixels, score (0 for an empty slot), label, the head's extras, embedding.
        columns: (n, W0, H0) bool, the masks, transposed. n = B·D, or on the CPU the number of detections without empty
            slots. None for heads without masks.
        state: what the head carries to the next frame of the video, if anything.
    """

    rows: Tensor
    columns: Tensor | None = None
    state: Tensor | None = None


class BaseDenseHead(BaseModule):
    """Base class; subclasses define ``forward``, ``loss`` and ``predict``.

    Attributes:
        class_layers: layers with outputs per class, used when weights of a detector with other classes are loaded.
        extras: name and number of values of further attributes of a detection, besides box, score and label.
        fixed_shape: whether no shape in ``loss`` depends on values, so that a detector may run it as a CUDA graph.
        clips_to_frame: whether :meth:`select` uses the shapes of the frames.
        selected: names of the tensors that :meth:`select` returns.
        strides: strides of the levels used; further levels are ignored.
    """

    class_layers = {'fcos_cls': ClassRows()}
    extras: tuple[tuple[str, int], ...] = ()
    fixed_shape = False
    clips_to_frame = True
    selected: tuple[str, ...] = ('rows', 'masks')
    strides: tuple[int, ...]

    def loss(self, feats: Sequence[Tensor], targets: PaddedTargets,
             references: PaddedTargets | None = None) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            feats: pyramid maps (B, C, h_l, w_l); for heads that track (2·B, C, h_l, w_l), of B key frames, then their
                reference frames.
            targets, references: objects of the key and of the reference frames.
        """
        raise NotImplementedError

    def initial_state(self) -> Tensor | None:
        """Return what the head carries from frame to frame before the first frame of a video; None: nothing."""
        return None

    def predict(self, feats: Sequence[Tensor], geometries: Sequence[FrameGeometry],
                state: Tensor | None = None) -> DeviceDetections:
        """Detect objects in B frames, in descending order of score, without synchronising with the GPU.

        Args:
            feats: pyramid maps (B, C, h_l, w_l).
            geometries: geometries of the frames; for heads with masks they must be equal.
            state: of heads with an :meth:`initial_state`: the state after the frame before, of B = 1 frame; the
                detections contain the next one.
        """
        raise NotImplementedError

    def select(self, outputs: Any, shapes: Tensor) -> tuple[Tensor, ...]:
        """Reduce the raw outputs of B frames to a few tensors, whose sizes do not depend on values.

        Together with :meth:`forward` this is what :mod:`mmdet.export` exports; :meth:`finish` remains in Python.

        Args:
            outputs: raw outputs.
            shapes: (B, 2) ``img_shape`` (h, w) of the frames, in pixels of the input.

        Returns:
            The arguments of :meth:`finish`, named by :attr:`selected`.
        """
        raise NotImplementedError

    def finish(self, selected: Sequence[Tensor], geometries: Sequence[FrameGeometry]) -> DeviceDetections:
        """Convert what :meth:`select` returns: here rows, masks and, if the head has one, the next state."""
        rows, masks, *state = selected
        return DeviceDetections(rows, self.to_columns(masks, rows[..., 4] > 0, geometries[0]), *state)

    def init_branches(self, classifier: nn.Conv2d) -> None:
        """Initialise weights of convolutions and linear layers from N(0, 0.01²), biases with 0.

        The bias of the classifier is set so that the initial probability of every class is 1 %.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        assert classifier.bias is not None
        nn.init.constant_(classifier.bias, -math.log(99))

    @staticmethod
    def to_columns(masks: Tensor, valid: Tensor, geometry: FrameGeometry) -> Tensor:
        """Convert mask probabilities (B, D, h, w), ``valid`` (B, D), to :attr:`DeviceDetections.columns`."""
        masks, valid = masks.flatten(0, 1), valid.flatten()
        # transposed before upsampling, since run lengths are in column-major order
        if masks.is_cuda or is_capturing():
            columns = torch.empty_like(masks.transpose(1, 2), memory_format=torch.contiguous_format)
            torch.mul(masks.transpose(1, 2), valid[:, None, None], out=columns)
        else:  # on a CPU, shapes may depend on values
            columns = masks[valid].transpose(1, 2).contiguous()
        return mask_resize(columns, MASK_STRIDE / geometry.scale_factor, geometry.ori_shape[::-1])

    def results(self, detections: DeviceDetections, geometries: Sequence[FrameGeometry]) -> list[InstanceData]:
        """Copy the detections of all frames to the host in one copy, and convert them to results.

        Returns:
            For each frame ``bboxes`` (original pixels), ``scores``, ``labels``, the head's extras and, if the head
            computes them, ``embeddings`` and ``masks`` (RLE).
        """
        masks = [] if detections.columns is None else columns_to_rle(detections.columns)
        rows = detections.rows.cpu()
        batch, slots = rows.shape[:2]
        counts = (rows[..., 4] > 0).sum(dim=1).tolist()
        padded = len(masks) == batch * slots
        results, start = [], 0
        for frame, (count, geometry) in enumerate(zip(counts, geometries, strict=True)):
            first = frame * slots if padded else start
            start += count
            fields = self._fields(rows[frame, :count], geometry)
            if detections.columns is not None:
                fields['masks'] = masks[first:first + count]
            results.append(make_instances(fields))
        return results

    def _fields(self, rows: Tensor, geometry: FrameGeometry) -> dict[str, Any]:
        fields = dict(bboxes=rows[:, :4] / geometry.scale_factor, scores=rows[:, 4], labels=rows[:, 5].long())
        column = 6
        for name, width in self.extras:
            fields[name] = rows[:, column] if width == 1 else rows[:, column:column + width]
            column += width
        if column < rows.shape[1]:
            fields['embeddings'] = rows[:, column:]
        return fields
