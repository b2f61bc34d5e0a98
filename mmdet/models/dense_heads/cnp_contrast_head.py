"""The MemCNP head (paper section 3): class and box branches that read a memory, a mask map and a track map.

Called by :class:`~mmdet.models.detectors.SipMaskMem`. :meth:`CNPContrastHead.forward` computes the raw outputs
(sections 3.1 and 3.2), :meth:`~CNPContrastHead.loss` the training losses (3.3 and 3.4),
:meth:`~CNPContrastHead.predict` the detections.

Symbols: B images, C channels, K classes, H×W padded input, level l of stride s = 8·2^l with an h×w map, N locations n
of all levels, μ and σ mean and standard deviation of the distances (l, t, r, b) of a location to the sides of its box,
G padded objects g, R padded reference objects r, P slots of positive locations, S candidates, D detections per frame.
IoU⁺ is the IoU of boxes whose x2, y2 are inclusive.
"""
from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from mmcv.cnn import Scale
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from mmdet.arguments import checked_number, checked_settings
from mmdet.errors import UserError
from mmdet.models.dense_heads.base_dense_head import (
    MASK_STRIDE,
    BaseDenseHead,
    DeviceDetections,
    FrameGeometry,
    TestSettings,
)
from mmdet.models.dense_heads.cnp_outputs import CNPOutputs
from mmdet.models.layers.conv_tower import conv_tower
from mmdet.models.layers.feature_align import FeatureAlign
from mmdet.models.layers.instance_masks import coefficient_masks
from mmdet.models.layers.pyramid import flatten_levels, fuse_levels
from mmdet.models.losses.coefficient_mask import coefficient_mask_loss
from mmdet.models.losses.contrastive_track import contrastive_track_loss, match_accuracy
from mmdet.models.losses.mixture_nll import mixture_nll_loss
from mmdet.models.memory.cnp_memory import WRITE_TARGETS, CNPMemory, unit_sets, write_targets
from mmdet.models.task_modules.fast_nms import fast_nms, rescore_by_masks
from mmdet.models.task_modules.padded_targets import PaddedTargets
from mmdet.models.task_modules.points import (
    Grid,
    drop_padding,
    enlarge_boxes,
    gather_rows,
    jitter_boxes,
    sample_at_centers,
    topk_per_level,
)
from mmdet.ops.device import device_constant
from mmdet.ops.resize import resize
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import aligned_legacy_box_iou, giou_loss

_FINE_LEVELS = 3  # levels from which the mask and the track map are computed
MASK_UPSAMPLINGS = ('bilinear', 'subpixel')
LOSSES = ('loss_bbox', 'loss_cls', 'loss_cnp', 'loss_seg', 'loss_centerness', 'loss_match')
MIN_MASK_BOX = 4  # in half-resolution pixels; boxes of at most this width or height are excluded from the mask loss


@MODELS.register_module()
class CNPContrastHead(BaseDenseHead):
    """Dense head with a conditional-neural-process memory and contrastive track embeddings.

    Args:
        num_classes: K.
        in_channels: C, channels of the pyramid's maps and of all branches; a multiple of 32.
        stacked_convs: convolutions of the mask tower; class and track towers have one fewer.
        strides: strides of the levels used; further levels are ignored.
        num_units, update_mode: arguments of :class:`~mmdet.models.memory.CNPMemory`; with 0 units there is no memory,
            and the context is 0.
        memory: config with further arguments of it.
        video_memory: config of a :class:`~mmdet.models.memory.VideoMemory`, whose context is added; None, as published:
            there is none.
        write_target: box that a location writes to the memory, see :func:`write_targets`.
        assigner: config of an assigner in ``task_modules/cnp_assigners.py``.
        track_jitter: in training, reference boxes are shifted randomly by up to this fraction of their size before
            their embeddings are sampled.
        mask_upsample: ``'bilinear'``, as published: the mask map is upsampled from stride 8; ``'subpixel'``: from
            stride 4, where a sub-pixel convolution (Shi et al., CVPR 2016) adds detail to the upsampled map.
        mask_margin: masks are cropped to boxes that are enlarged at each side by this fraction of their width and
            height, in training and testing. 0, as published: to the boxes themselves.
        dice_weight: weight of a dice term inside the boxes, which is added to ``loss_seg`` for each object. 0, as
            published: none.
        loss_weights: weights of the losses :data:`LOSSES`. Published: 1.
        test_cfg: see :class:`TestSettings`; ``score_thr`` applies to class · centerness.
    """

    extras = (('uncertainties', 4), ('centerness', 1))
    fixed_shape = True
    clips_to_frame = False  # boxes are clamped to the padded input

    def __init__(self, num_classes: int, in_channels: int = 256, stacked_convs: int = 3,
                 strides: Sequence[int] = (8, 16, 32, 64), num_units: int = 128, update_mode: str = 'top1',
                 memory: dict | None = None, write_target: str = 'published', assigner: dict | None = None,
                 track_jitter: float = 0.05, mask_upsample: str = 'bilinear', dice_weight: float = 0.0,
                 loss_weights: dict[str, float] | None = None, test_cfg: dict | None = None,
                 init_cfg: dict | None = None, video_memory: dict | None = None, mask_margin: float = 0.0) -> None:
        super().__init__(init_cfg)
        if mask_upsample not in MASK_UPSAMPLINGS:
            raise UserError(f'CNPContrastHead mask_upsample={mask_upsample!r} is unknown; use one of '
                            f'{MASK_UPSAMPLINGS}')
        if write_target not in WRITE_TARGETS:
            raise UserError(f'CNPContrastHead write_target={write_target!r} is unknown; use one of {WRITE_TARGETS}')
        loss_weights = dict(checked_settings('CNPContrastHead loss_weights', loss_weights or {}, LOSSES))
        for name, value in loss_weights.items():
            checked_number(f'CNPContrastHead loss_weights.{name}', value, 0)
        self.mask_margin = checked_number('CNPContrastHead mask_margin', mask_margin, 0)
        self.dice_weight = checked_number('CNPContrastHead dice_weight', dice_weight, 0)
        self.loss_weights = dict.fromkeys(LOSSES, 1.0) | loss_weights
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
        self.mask_detail = nn.Conv2d(channels, 4 * channels, 3, padding=1) if mask_upsample == 'subpixel' else None
        # part of the checkpoint; only detached offsets depend on them, so they have no gradient
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.strides).requires_grad_(False)
        self.cls_align = FeatureAlign(2 * channels, channels)
        self.mask_align = FeatureAlign(channels, channels)
        self.mem = MODELS.build({'type': 'CNPMemory', 'channels': channels, 'num_units': num_units,
                                 'update_mode': update_mode, 'num_levels': len(self.strides),
                                 **checked_settings('CNPContrastHead memory', memory or {})}) if num_units else None
        self.init_branches(self.fcos_cls)
        # has initial weights of its own
        self.video_memory = None if video_memory is None else MODELS.build(
            {'type': 'VideoMemory', 'channels': channels, 'num_classes': num_classes,
             **checked_settings('CNPContrastHead video_memory', video_memory)})
        if self.video_memory is not None and self.mem is not None and self.mem.online is not None:
            raise UserError('CNPContrastHead memory.online_memory and video_memory cannot be combined: set one of them '
                            'to None')
        self.assigner = TASK_UTILS.build(assigner or dict(type='UncertaintyAssigner'))
        self.assigner.check_levels(len(self.strides))
        self.track_jitter = checked_number('CNPContrastHead track_jitter', track_jitter, 0)
        self.test_settings = TestSettings.of('CNPContrastHead', test_cfg, nms_pre=200, score_thr=0.015, nms_thr=0.5,
                                             max_per_img=10, quality_exponent=0.0)

    # -----------------------------------------------------------------------------------------------------------------
    # Network and memory (sections 3.1 and 3.2)

    def forward(self, feats: Sequence[Tensor], targets: PaddedTargets | None = None, units: Tensor | None = None,
                references: PaddedTargets | None = None) -> CNPOutputs:
        """Compute the raw outputs.

        Args:
            feats: pyramid maps (B, C, h_l, w_l); with targets (2·B, C, h_l, w_l), of B key frames, then their reference
                frames, for which only the track map is computed.
            targets: objects of the key frames, in training; they are written to the memory before it is read.
            units: in testing, the units of the video, see :meth:`initial_state`.
            references: objects of the reference frames, in training; those of a pair are written to the video memory
                that its key frame reads.
        """
        feats = feats[:len(self.strides)]
        batch = len(feats[0]) if targets is None else len(targets)
        keys = [feat[:batch] for feat in feats]
        grid = Grid.of(keys, self.strides)

        track = fuse_levels([self.track_convs(feat) for feat in feats[:_FINE_LEVELS]], self.track_fuse)
        cls_feats = [self.cls_convs(key) for key in keys]  # c: (B, C, h, w)
        mask_feats = [self.mask_convs(key) for key in keys]  # m: (B, C, h, w)

        if self.mem is None:
            contexts = [torch.zeros_like(feat) for feat in cls_feats]
        elif targets is None:
            contexts = self.mem(cls_feats, units=units if self.video_memory is None else None)
        else:
            contexts = self.mem(cls_feats, *write_targets(grid.points, targets.gt_bboxes, targets.valid, grid.size,
                                                          self.write_target))
        boxes_read = None
        if self.video_memory is not None:
            if references is not None:
                with torch.no_grad():  # after the key frames, whose weights autocast keeps with their gradient
                    previous = [self.cls_convs(feat[batch:]) for feat in feats]
                units = self.video_memory.write_annotated(previous, grid, references)
            if units is not None:
                read, boxes_read = self.video_memory(cls_feats, grid, units)
                contexts = [shared + own for shared, own in zip(contexts, read)]

        height, width = grid.size
        cls_logits, regressions, centerness, masks = [], [], [], []
        for level, stride in enumerate(self.strides[:len(keys)]):
            cls_feat, mask_feat = cls_feats[level], mask_feats[level]
            joint = torch.cat([cls_feat, contexts[level].to(cls_feat.dtype)], dim=1)  # z = [c, context]: (B, 2C, h, w)
            regression = self.fcos_reg(joint)  # (B, 8, h, w)
            if boxes_read is not None:
                weight, box = boxes_read[level].split((1, 4), dim=1)
                regression = torch.cat([(1 - weight) * regression[:, :4] + box, regression[:, 4:]], dim=1)
            # a = scale_l · μ · (W, H, W, H) / s: the box in cells of the level, without gradient
            cells = (device_constant((width, height) * 2, joint.device) / stride).view(1, 4, 1, 1)
            boxes = self.scales[level](regression[:, :4].detach().sigmoid() * cells)  # (B, 4, h, w)
            cls_logits.append(self.fcos_cls(self.cls_align(joint, boxes)))  # (B, K, h, w)
            if level < _FINE_LEVELS:
                masks.append(self.mask_align(mask_feat, boxes))  # m': (B, C, h, w)
            regressions.append(regression)
            centerness.append(self.fcos_centerness(mask_feat))  # (B, 1, h, w)
        regression = flatten_levels(regressions)  # (B, N, 8)
        coarse_mask = fuse_levels(masks, self.mask_fuse)
        if self.mask_detail is not None:
            coarse_mask = resize(coarse_mask, 2) + F.pixel_shuffle(self.mask_detail(coarse_mask.relu()), 2)
        return CNPOutputs(
            cls_logits=flatten_levels(cls_logits), centerness=flatten_levels(centerness).squeeze(-1),
            means=regression[..., :4].sigmoid(), sigmas=0.1 + 0.9 * F.softplus(regression[..., 4:]),
            coarse_mask=coarse_mask, track=track[:batch],
            ref_track=None if targets is None else track[batch:], grid=grid, cls_feats=cls_feats)

    def written_values(self, feats: Sequence[Tensor], instances: Sequence[InstanceData]) -> list[Tensor]:
        """Return the values (n_l, C + 4) that the locations of each level would write to the memory.

        Args:
            feats: pyramid maps (B, C, h_l, w_l).
            instances: ground truth of B images.
        """
        cls_feats = [self.cls_convs(feat) for feat in feats[:len(self.strides)]]
        grid = Grid.of(cls_feats, self.strides)
        objects = PaddedTargets.from_instances(instances, with_masks=False)
        targets, written = write_targets(grid.points, objects.gt_bboxes, objects.valid, grid.size, self.write_target)
        values = torch.cat([flatten_levels(cls_feats), targets], dim=2)  # (B, N, C + 4)
        sizes = [height * width for height, width in grid.level_sizes]
        return [level[chosen] for level, chosen in zip(values.split(sizes, dim=1), written.split(sizes, dim=1))]

    # -----------------------------------------------------------------------------------------------------------------
    # Training (sections 3.3 and 3.4)

    def loss(self, feats: Sequence[Tensor], targets: PaddedTargets,
             references: PaddedTargets | None = None) -> dict[str, Tensor]:
        """Compute the losses of key and reference frames; see the base class and :meth:`criterion`."""
        outputs = self.forward(feats, targets, references=references)
        assert references is not None
        with torch.autocast(outputs.track.device.type, enabled=False):
            return self.criterion(outputs, targets, references)

    def criterion(self, outputs: CNPOutputs, targets: PaddedTargets, references: PaddedTargets) -> dict[str, Tensor]:
        """Compute six losses, times their weights, and the matching accuracy.

        ``loss_bbox, loss_cls, loss_cnp, loss_seg, loss_match`` are sums over images divided by the number of images
        with ground truth, ``loss_centerness`` is divided by B. All are finite and differentiable even without ground
        truth, positive locations or kept boxes.

        Args:
            outputs: raw outputs for key and reference frames.
            targets, references: objects of the key frames and of the reference frames.
        """
        assert targets.gt_masks is not None and outputs.ref_track is not None
        grid = outputs.grid
        assignment = self.assigner(grid.points, grid.level_sizes, outputs.sigmas.detach(), targets)
        index, slot_gt, positive = assignment.index, assignment.gt, assignment.positive  # (B, P)
        bboxes, gt_bboxes = gather_rows(outputs.bboxes(), index), gather_rows(targets.gt_bboxes, slot_gt)  # (B, P, 4)
        gt_labels = targets.gt_labels.gather(1, slot_gt)  # (B, P)
        logits = gather_rows(outputs.cls_logits, index).gather(2, gt_labels[..., None]).squeeze(2)
        confidence = logits.sigmoid().detach()  # of the object's class: (B, P)
        num_positive = positive.sum(dim=1).clamp(min=1)  # (B,)
        num_images = targets.valid.any(dim=1).sum().clamp(min=1)

        # mean over positives of 1 − GIoU
        loss_bbox = torch.where(positive, giou_loss(bboxes, gt_bboxes), 0.0).sum(dim=1) / num_positive  # (B,)

        # focal loss summed over positives and negatives, / number of positives
        place = index * self.num_classes + gt_labels
        # added rather than assigned, since empty slots may have the location of a positive slot
        onehot = torch.zeros_like(outputs.cls_logits).flatten(1).scatter_add_(
            1, place, positive.to(outputs.cls_logits.dtype)).view_as(outputs.cls_logits)  # (B, N, K)
        counted = (onehot.amax(dim=2) > 0) | assignment.negative  # (B, N)
        loss_cls = (sigmoid_focal_loss(outputs.cls_logits, onehot).sum(dim=2) * counted).sum(dim=1) / num_positive

        # −log Σ_n w_n·N(g; μbox_n, σ_n) / N + smooth L1(σ_n, u_n), u_n = (1 − confidence) + (1 − IoU⁺)
        height, width = grid.size
        extent = device_constant((width, height) * 2, bboxes.device)
        error = (1 - confidence) + (1 - aligned_legacy_box_iou(bboxes.detach(), gt_bboxes))  # u: (B, P)
        weights = assignment.centerness.gather(1, index) + 1e-9  # w, not normalised: (B, P)
        loss_cnp = mixture_nll_loss(bboxes / extent, gather_rows(outputs.sigmas, index), targets.gt_bboxes / extent,
                                    weights, error, slot_gt, positive, len(grid.points))

        # binary cross-entropy of sigmoid(coefficient · mask map) inside the boxes, weighted by v = IoU⁺ · confidence
        halved = bboxes.detach() / MASK_STRIDE
        kept = positive & (halved[..., 2:] - halved[..., :2] > MIN_MASK_BOX).all(dim=-1)  # (B, P)
        gt_masks = F.interpolate(targets.gt_masks.float(), scale_factor=1 / MASK_STRIDE, mode='bilinear',
                                 align_corners=False) > 0.5  # (B, G, H/2, W/2)
        coefficients = sample_at_centers(outputs.track, bboxes.detach())  # (B, P, C)
        quality = aligned_legacy_box_iou(gt_bboxes / MASK_STRIDE, halved) * confidence  # v: (B, P)
        crops = enlarge_boxes(halved, self.mask_margin)
        loss_seg = coefficient_mask_loss(outputs.mask, coefficients, crops, kept, gt_masks, slot_gt, quality,
                                         self.dice_weight)

        # binary cross-entropy, mean over all locations inside a box
        error = F.binary_cross_entropy_with_logits(outputs.centerness, assignment.centerness, reduction='none')
        loss_centerness = ((error * assignment.inside).sum(dim=1) / assignment.inside.sum(dim=1).clamp(min=1)).mean()

        # −log(Σ exp(positive pairs) / Σ exp(negative pairs)) of the objects of images that kept a box (section 3.4)
        track, ref_track = outputs.track.float(), outputs.ref_track.float()
        queries = sample_at_centers(track, targets.gt_bboxes)  # q: (B, G, C)
        keys = sample_at_centers(ref_track, jitter_boxes(references.gt_bboxes, self.track_jitter))  # r: (B, R, C)
        match = targets.match(references)  # (B, G)
        image_kept = kept.any(dim=1, keepdim=True)
        loss_match = contrastive_track_loss(queries, keys, targets.valid & image_kept, references.valid & image_kept,
                                            match)
        coefficients = sample_at_centers(track, bboxes.detach())  # (B, P, C)
        match_acc = match_accuracy(coefficients.detach(), keys.detach(), references.valid, match.gather(1, slot_gt),
                                   kept)
        # as in the training of the published weights, the loss of a batch without a correct match is 0
        loss_match = torch.where(match_acc > 0, loss_match / num_images, 0.0 * loss_match)

        losses = dict(loss_bbox=loss_bbox.sum() / num_images, loss_cls=loss_cls.sum() / num_images,
                      loss_cnp=loss_cnp.sum() / num_images, loss_seg=loss_seg.sum() / num_images,
                      loss_centerness=loss_centerness, loss_match=loss_match)
        return {name: loss * self.loss_weights[name] for name, loss in losses.items()} | dict(match_acc=match_acc)

    # -----------------------------------------------------------------------------------------------------------------
    # Testing

    def initial_state(self) -> Tensor | None:
        """Return the units with which a video begins, if it has units of its own; see the base class.

        With ``memory.online_memory``, these are the trained units (S, M, C + 4), with ``video_memory`` empty units
        (1, D, C + 6).
        """
        if self.video_memory is not None:
            return self.video_memory.empty_units(self.test_settings.max_per_img)
        return None if self.mem is None or self.mem.online is None else unit_sets(self.mem).detach()

    def predict(self, feats: Sequence[Tensor], geometries: Sequence[FrameGeometry],
                state: Tensor | None = None) -> DeviceDetections:
        """Detect objects in B frames of equal geometry; see the base class. The state is the units of the video."""
        outputs = self.forward(feats, units=state)
        with torch.autocast(outputs.track.device.type, enabled=False):
            return self.detect(outputs, geometries, state)

    def detect(self, outputs: CNPOutputs, geometries: Sequence[FrameGeometry],
               units: Tensor | None = None) -> DeviceDetections:
        """Convert the raw outputs to detections, and compute the next units."""
        shapes = device_constant(geometries[0].img_shape, outputs.track.device).expand(len(outputs.track), 2)
        return self.finish(self.select(outputs, shapes, units), geometries)

    def select(self, outputs: CNPOutputs, shapes: Tensor, units: Tensor | None = None) -> tuple[Tensor, ...]:
        """Select candidates per level, apply Fast NMS, compute masks, track embeddings and the next units.

        Returns:
            Rows (B, D, …), see :class:`DeviceDetections`, mask probabilities (B, D, H/2, W/2) and, given units, the
            next ones.
        """
        settings = self.test_settings
        centerness = outputs.centerness.sigmoid()
        index = topk_per_level(outputs.cls_logits.amax(dim=2).sigmoid() * centerness, outputs.grid.level_sizes,
                               settings.nms_pre)  # (B, S)
        centerness = centerness.gather(1, index)  # (B, S)
        scores = gather_rows(outputs.cls_logits, index).sigmoid() * centerness[..., None]  # (B, S, K)
        scores = drop_padding(scores, outputs.grid.level_sizes, settings.nms_pre)
        found = fast_nms(outputs.bboxes(index), scores, settings.nms_thr, settings.score_thr, settings.max_per_img,
                         settings.nms_pre, settings.agnostic)
        coefficients = sample_at_centers(outputs.track, found.bboxes)
        crops = enlarge_boxes(found.bboxes / MASK_STRIDE, self.mask_margin)
        masks = coefficient_masks(outputs.coarse_mask, coefficients, crops, outputs.mask_factor)
        if settings.quality_exponent:
            found, masks = rescore_by_masks(found, masks, settings.quality_exponent)
        sigmas = gather_rows(outputs.sigmas, index.gather(1, found.index)).clamp(max=1)  # (B, D, 4)
        embeddings = sample_at_centers(outputs.track, found.bboxes, rounding='nearest')  # (B, D, C)
        rows = torch.cat([found.bboxes, found.scores[..., None], found.labels[..., None], sigmas,
                          centerness.gather(1, found.index)[..., None], embeddings.float()], dim=-1)
        if units is None:
            return rows, masks
        if self.video_memory is not None:
            return rows, masks, self.video_memory.write_detected(outputs.cls_feats, outputs.grid, found,
                                                                 settings.nms_thr)
        assert self.mem is not None
        return rows, masks, self._next_units(self.mem, units, outputs, index.gather(1, found.index)[0], found.scores[0])

    @staticmethod
    def _next_units(memory: CNPMemory, units: Tensor, outputs: CNPOutputs, location: Tensor, scores: Tensor) -> Tensor:
        """Return the units after D detections, with these locations and scores, of the single frame of a batch."""
        encoded = 2 * (outputs.means[0, location] - 0.5)  # y of the detection's own location: (D, 4)
        values = torch.cat([flatten_levels(outputs.cls_feats)[0, location], encoded], dim=1)
        ends = tuple(accumulate(height * width for height, width in outputs.grid.level_sizes))
        levels = (location[:, None] >= device_constant(ends, location.device)).sum(dim=1)
        return memory.write_online(units, values, levels, scores)
