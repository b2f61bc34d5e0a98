"""The MemCNP head (paper section 3): class and box branches that read a memory, a mask map and a track map.

Called by :class:`~mmdet.models.detectors.SipMaskMem`: ``loss`` in training, ``detect`` in testing. The losses are in
``cnp_contrast_loss.py``, the way from maps to detections in ``cnp_contrast_predict.py``.

Symbols: B images, C channels, K classes, H×W padded input, level l of stride s = 8·2^l with an h×w map, N locations of
all levels.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmcv.cnn import Scale
from mmengine.dist import get_world_size
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.models.dense_heads.clip_predictor import DeviceDetections, FrameGeometry
from mmdet.models.dense_heads.cnp_contrast_loss import LOSSES, CNPContrastLoss
from mmdet.models.dense_heads.cnp_contrast_predict import CNPContrastPredictor
from mmdet.models.layers.constants import device_constant
from mmdet.models.layers.conv_tower import conv_tower, init_dense_head
from mmdet.models.layers.feature_align import FeatureAlign
from mmdet.models.layers.pyramid import flatten_levels, fuse_levels
from mmdet.models.layers.training_graphs import TrainingGraphs, call
from mmdet.models.memory import CNPMemory
from mmdet.models.memory.write_targets import write_targets
from mmdet.models.task_modules.padded_targets import PaddedTargets
from mmdet.models.task_modules.points import pyramid_points
from mmdet.ops.resize import resize
from mmdet.registry import MODELS
from mmdet.structures import TrackDataSample

_FINE_LEVELS = 3  # levels that feed the mask and the track map
_GRAPH_OBJECTS = 4  # a graphed step's objects of an image are padded to a multiple of it
MASK_FACTOR = 4  # from the finest level's resolution to the mask map's


@dataclass
class CNPMaps:
    """What the head says about a batch of frames.

    Attributes:
        cls_logits: (B, N, K) float32. centerness: (B, N) logits, float32.
        means: (B, N, 4) in (0, 1): distances l, t, r, b from the location to the box, relative to the image.
        sigmas: (B, N, 4) standard deviations of the same, at least 0.1.
        track: (B, C, H/8, W/8). coarse_mask: (B, C, H/8, W/8), see :attr:`mask`.
        points: (N, 2) x, y of the locations in pixels. level_sizes: (h, w) of each level. size: (H, W).
    """

    cls_logits: Tensor
    centerness: Tensor
    means: Tensor
    sigmas: Tensor
    track: Tensor
    coarse_mask: Tensor
    points: Tensor
    level_sizes: list[tuple[int, int]]
    size: tuple[int, int]

    @property
    def mask(self) -> Tensor:
        """The mask map (B, C, H/2, W/2), non-negative: the coarse one upsampled, then clamped at 0."""
        return resize(self.coarse_mask, MASK_FACTOR).relu()


@MODELS.register_module()
class CNPContrastHead(BaseModule):
    """Dense head with a conditional-neural-process memory and contrastive track embeddings.

    Args:
        num_classes: K.
        in_channels: C, of the pyramid's maps and of all branches; a multiple of 32.
        stacked_convs: convolutions of the mask tower; class and track towers have one fewer.
        strides: of the levels; levels beyond are ignored.
        num_units, update_mode: of the memory, see :class:`CNPMemory`; 0 units: no memory, the context is 0.
        write_target: what the memory stores, see :func:`write_targets`.
        assigner: config of an assigner in ``task_modules/cnp_assigners.py``.
        track_jitter: share of its size by which a reference box is shifted at random in training.
        test_cfg: ``max_pre_nms, score_thr, nms_thr, max_per_img``, see :class:`CNPContrastPredictor`.
    """

    def __init__(self, num_classes: int, in_channels: int = 256, stacked_convs: int = 3,
                 strides: Sequence[int] = (8, 16, 32, 64), num_units: int = 128, update_mode: str = 'top1',
                 write_target: str = 'published', assigner: dict | None = None, track_jitter: float = 0.05,
                 test_cfg: dict | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.num_classes, self.strides, self.write_target = num_classes, tuple(strides), write_target
        channels = in_channels
        self.cls_convs = conv_tower(channels, stacked_convs - 1, last_relu=False)
        self.mask_convs = conv_tower(channels, stacked_convs)
        self.track_convs = conv_tower(channels, stacked_convs - 1)
        self.fcos_cls = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.fcos_reg = nn.Conv2d(2 * channels, 8, 3, padding=1)
        self.fcos_centerness = nn.Conv2d(channels, 1, 3, padding=1)
        self.track_fuse = nn.Conv2d(_FINE_LEVELS * channels, channels, 1)
        self.mask_fuse = nn.Conv2d(_FINE_LEVELS * channels, channels, 1)
        # part of the checkpoint; they only steer detached offsets, so they never learn
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.strides).requires_grad_(False)
        self.cls_align = FeatureAlign(2 * channels, channels)
        self.mask_align = FeatureAlign(channels, channels)
        self.mem = CNPMemory(channels, num_units, update_mode=update_mode) if num_units else None
        init_dense_head(self, self.fcos_cls)
        self.criterion = CNPContrastLoss(num_classes, assigner or dict(type='UncertaintyAssigner'), track_jitter)
        self.predictor = CNPContrastPredictor(**(test_cfg or {}))

    def forward(self, feats: Sequence[Tensor], targets: PaddedTargets | None = None) -> CNPMaps:
        """Pyramid maps (B, C, h_l, w_l) → maps; given ground truth, the memory is written on the way (training)."""
        levels = len(self.strides)
        feats = feats[:levels]
        towers = self.towers(len(feats[0]), *feats)
        given = (None, None) if targets is None else (targets.bboxes, targets.valid)
        contexts = self._read(call, *given, *towers[:levels])
        return self._maps(towers, contexts)

    def towers(self, num_keys: int, *feats: Tensor) -> tuple[Tensor, ...]:
        """What needs no memory: class and mask features of the first ``num_keys`` images (B, C, h_l, w_l), level by
        level, and the track map (B, C, H/8, W/8) of all images.
        """
        feats = feats[:len(self.strides)]
        keys = [feat[:num_keys] for feat in feats]
        track = fuse_levels([self.track_convs(feat) for feat in feats[:_FINE_LEVELS]], self.track_fuse)
        return *(self.cls_convs(key) for key in keys), *(self.mask_convs(key) for key in keys), track

    def _read(self, run: Callable, gt_bboxes: Tensor | None, gt_valid: Tensor | None,
              *cls_feats: Tensor) -> Sequence[Tensor]:
        """Contexts (B, C, h_l, w_l), read with ``run``; given ground truth, the memory is written first."""
        if self.mem is None:
            return [torch.zeros_like(feat) for feat in cls_feats]
        if gt_bboxes is None:
            return self.mem.read_levels(None, None, *cls_feats)[1:]
        units, *contexts = run(self.write_and_read, gt_bboxes, gt_valid, *cls_feats)
        self.mem.store(units)
        return contexts

    def write_and_read(self, gt_bboxes: Tensor, gt_valid: Tensor, *cls_feats: Tensor) -> tuple[Tensor, ...]:
        """See :meth:`CNPMemory.read_levels`; what is written are the boxes (B, G, 4), as :func:`write_targets` says."""
        points, _, size = self._places(cls_feats)
        return self.mem.read_levels(*write_targets(points, gt_bboxes, gt_valid, size, self.write_target), *cls_feats)

    def _places(self, feats: Sequence[Tensor]) -> tuple[Tensor, list[tuple[int, int]], tuple[int, int]]:
        """Points (N, 2) of all levels, (h, w) of each level, (H, W)."""
        level_sizes = [tuple(feat.shape[-2:]) for feat in feats]
        height, width = level_sizes[0]
        return (pyramid_points(level_sizes, self.strides, feats[0].device), level_sizes,
                (height * self.strides[0], width * self.strides[0]))

    def _maps(self, towers: Sequence[Tensor], contexts: Sequence[Tensor]) -> CNPMaps:
        """What follows the memory. ``towers``: see :meth:`towers`, of the same images as the contexts."""
        levels = len(self.strides)
        cls_feats, mask_feats, track = towers[:levels], towers[levels:2 * levels], towers[-1]
        points, level_sizes, size = self._places(cls_feats)
        outputs = [self._level(level, size, *feats) for level, feats in enumerate(zip(cls_feats, mask_feats, contexts))]
        cls_logits, regression, centerness, masks = zip(*outputs)
        regression = flatten_levels(regression)
        return CNPMaps(
            cls_logits=flatten_levels(cls_logits), centerness=flatten_levels(centerness).squeeze(-1),
            means=regression[..., :4].sigmoid(), sigmas=0.1 + 0.9 * F.softplus(regression[..., 4:]),
            track=track, coarse_mask=fuse_levels(masks[:_FINE_LEVELS], self.mask_fuse),
            points=points, level_sizes=level_sizes, size=size)

    def _level(self, level: int, size: tuple[int, int], cls_feat: Tensor, mask_feat: Tensor,
               context: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """One level, from three maps (B, C, h, w).

        Returns:
            class logits (B, K, h, w), regression (B, 8, h, w), centerness (B, 1, h, w), aligned mask feature
            (B, C, h, w) or, of a level that no mask is made from, None.
        """
        stride = self.strides[level]
        joint = torch.cat([cls_feat, context.to(cls_feat.dtype)], dim=1)  # (B, 2C, h, w)
        regression = self.fcos_reg(joint)
        height, width = size
        cells = device_constant((width / stride, height / stride) * 2, joint.device).view(1, 4, 1, 1)
        boxes = self.scales[level](regression[:, :4].detach().sigmoid() * cells)
        cls_logits = self.fcos_cls(self.cls_align(joint, boxes))
        aligned = self.mask_align(mask_feat, boxes) if level < _FINE_LEVELS else None
        return cls_logits, regression, self.fcos_centerness(mask_feat), aligned

    def loss(self, feats: Sequence[Tensor], data_samples: Sequence[TrackDataSample],
             graphs: TrainingGraphs | None = None) -> dict[str, Tensor]:
        """Losses of key frames (frame 0 of each clip) with reference frames (frame 1); see :class:`CNPContrastLoss`.

        Args:
            feats: pyramid maps (2·N, C, h_l, w_l) of all key frames, then all reference frames.
            data_samples: N clips.
            graphs: runs the fixed-shape parts.
        """
        feats = feats[:len(self.strides)]
        # a graph is of one number of objects: few different ones
        multiple = 1 if graphs is None else _GRAPH_OBJECTS
        targets = PaddedTargets.from_instances([clip[0].gt_instances for clip in data_samples], multiple=multiple)
        references = PaddedTargets.from_instances([clip[1].gt_instances for clip in data_samples], with_masks=False,
                                                  multiple=multiple)
        run = call if graphs is None else graphs.run
        towers = run(self.towers, *feats, static=(len(data_samples),))
        # processes add up what they write, which a graph cannot
        contexts = self._read(run if get_world_size() == 1 else call, targets.bboxes, targets.valid,
                              *towers[:len(self.strides)])
        values = run(self._losses, *towers, *contexts, *targets.tensors(), *references.tensors(),
                     static=(graphs is None,))
        return dict(zip(LOSSES, values, strict=True))

    def _losses(self, pack: bool, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Values in the order of ``LOSSES``. ``tensors``: :meth:`towers` of keys and references, contexts, key targets,
        reference targets. ``pack``: see :class:`CNPContrastLoss`.
        """
        levels = len(self.strides)
        *towers, tracks = tensors[:2 * levels + 1]
        contexts, objects = tensors[2 * levels + 1:3 * levels + 1], tensors[3 * levels + 1:]
        targets, references = PaddedTargets(*objects[:5]), PaddedTargets(*objects[5:])
        track, ref_track = tracks.chunk(2)
        maps = self._maps([*towers, track], contexts)
        with torch.autocast(track.device.type, enabled=False):
            losses = self.criterion(maps, ref_track.float(), targets, references, pack)
        return tuple(losses[name] for name in LOSSES)

    def detect(self, feats: Sequence[Tensor], geometry: FrameGeometry) -> DeviceDetections:
        """Detections of frames of one geometry, on the device; ``predictor.collect`` makes results of them."""
        maps = self(feats)
        with torch.autocast(maps.track.device.type, enabled=False):
            return self.predictor.detect(maps, geometry)
