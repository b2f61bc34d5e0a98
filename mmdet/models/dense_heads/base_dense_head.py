"""Base class of the dense heads: settings of testing, initial weights, conversion of detections to results.

A head (FCOS, SipMask, MemCNP) is one module: ``forward`` computes the raw outputs, in training and testing; ``loss``
compares them with the ground truth; ``predict`` turns them into :class:`DeviceDetections` of fixed size on the device,
so that testing can be replayed as a CUDA graph; :meth:`BaseDenseHead.results` copies those to the host once.

Symbols: B frames, D detections a frame, F values of a detection, H0×W0 original frames, K classes, N locations.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.checkpoint import ClassRows
from mmdet.errors import UserError
from mmdet.models.layers.instance_masks import resize_and_fit
from mmdet.models.task_modules.fast_nms import Detections
from mmdet.models.task_modules.padded_targets import PaddedTargets
from mmdet.ops.device import is_capturing
from mmdet.structures import DetDataSample
from mmdet.structures.device_rle import changes_to_rle, run_changes

MASK_STRIDE = 2  # pixels of the input per pixel of the mask maps
_PUBLISHED_KEYS = {'max_pre_nms': 'nms_pre'}  # of published configs


@dataclass
class TestSettings:
    """A head's ``test_cfg``.

    Attributes:
        nms_pre: locations kept per level and, in Fast NMS, candidates per class.
        score_thr: scores must exceed it.
        nms_thr: boxes of a class that overlap a better one by more are dropped.
        max_per_img: detections of a frame at most.
    """

    __test__ = False  # pytest: not a test class

    nms_pre: int
    score_thr: float
    nms_thr: float
    max_per_img: int

    @classmethod
    def of(cls, head: str, test_cfg: dict | None, **defaults: float) -> TestSettings:
        """Read a config on top of a head's defaults.

        Raises:
            UserError: unknown keys.
        """
        given = {_PUBLISHED_KEYS.get(key, key): value for key, value in (test_cfg or {}).items()}
        unknown = [key for key in given if key not in defaults]
        if unknown:
            raise UserError(f'{head} test_cfg has unknown keys {", ".join(map(repr, unknown))}; use '
                            f'{", ".join(defaults)}')
        return cls(**{**defaults, **given})


class FrameGeometry(NamedTuple):
    """Size of a frame in the network's input: ``scale_factor``, ``img_shape`` and ``ori_shape`` of its sample."""

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
        rows: (B, D, F) float32: box in network pixels, score (0: no detection), label, the head's extras, embedding.
        changes: (n, W0·H0) bool of :func:`run_changes`: n = B·D, or on the CPU only the masks of real detections; None
            from a head without masks.
    """

    rows: Tensor
    changes: Tensor | None = None


class BaseDenseHead(BaseModule):
    """Base class; subclasses define ``forward``, ``loss`` and ``predict``.

    Attributes:
        class_layers: layers with outputs per class, for starting from a detector of other classes.
        extras: name and width of what a detection carries beside box, score and label.
        fixed_shape: whether the shapes in ``loss`` depend on no value, so that a detector may run it as a CUDA graph.
        strides: of the levels; further levels are ignored.
    """

    class_layers = {'fcos_cls': ClassRows()}
    extras: tuple[tuple[str, int], ...] = ()
    fixed_shape = False
    strides: tuple[int, ...]

    def loss(self, feats: Sequence[Tensor], targets: PaddedTargets,
             references: PaddedTargets | None = None) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            feats: pyramid maps (B, C, h_l, w_l); heads that track take 2·B, B key frames, then their reference frames.
            targets, references: objects of the key and of the reference frames.
        """
        raise NotImplementedError

    def predict(self, feats: Sequence[Tensor], geometries: Sequence[FrameGeometry]) -> DeviceDetections:
        """Detect in B frames, best first, without leaving the device.

        Args:
            feats: pyramid maps (B, C, h_l, w_l).
            geometries: of the frames; a head with masks takes frames of one geometry.
        """
        raise NotImplementedError

    def init_branches(self, classifier: nn.Conv2d) -> None:
        """Draw the weights of all convolutions and linear layers from N(0, 0.01), set biases to 0 and the probability
        of every class to 1 %.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        assert classifier.bias is not None
        nn.init.constant_(classifier.bias, -math.log(99))

    @staticmethod
    def to_runs(masks: Tensor, detections: Detections, geometry: FrameGeometry) -> Tensor:
        """Turn mask probabilities (B, D, h, w) into ends of runs of the original frames, see
        :attr:`DeviceDetections.changes`.
        """
        masks, valid = masks.flatten(0, 1), detections.valid.flatten()
        if masks.is_cuda or is_capturing():
            masks = masks * valid[:, None, None]
        else:  # on a CPU the number of masks may vary
            masks = masks[valid]
        # transpose before upsampling: run lengths are in column-major order
        columns = masks.transpose(1, 2).contiguous()
        return run_changes(resize_and_fit(columns, MASK_STRIDE / geometry.scale_factor, geometry.ori_shape[::-1]))

    def results(self, detections: DeviceDetections, geometries: Sequence[FrameGeometry]) -> list[InstanceData]:
        """Copy detections to the host, all in one copy, and convert them.

        Returns:
            Per frame ``bboxes`` (original pixels), ``scores``, ``labels``, the head's extras and, where it makes them,
            ``embeddings`` and ``masks`` (RLE).
        """
        masks = [] if detections.changes is None else changes_to_rle(detections.changes, *geometries[0].ori_shape)
        rows = detections.rows.cpu()
        batch, slots = rows.shape[:2]
        counts = (rows[..., 4] > 0).sum(dim=1).tolist()
        padded = len(masks) == batch * slots
        results, start = [], 0
        for frame, (count, geometry) in enumerate(zip(counts, geometries, strict=True)):
            first = frame * slots if padded else start
            start += count
            instances = self._instances(rows[frame, :count], geometry)
            if detections.changes is not None:
                instances.masks = masks[first:first + count]
            results.append(instances)
        return results

    def _instances(self, rows: Tensor, geometry: FrameGeometry) -> InstanceData:
        instances = InstanceData(
            bboxes=rows[:, :4] / geometry.scale_factor, scores=rows[:, 4], labels=rows[:, 5].long())
        column = 6
        for name, width in self.extras:
            instances[name] = rows[:, column] if width == 1 else rows[:, column:column + width]
            column += width
        if column < rows.shape[1]:
            instances.embeddings = rows[:, column:]
        return instances
