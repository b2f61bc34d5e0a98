"""MaskTrack R-CNN (Yang et al., Video instance segmentation, ICCV 2019): two-stage detector, segmenter and tracker.

Built from a config by name; called by mmengine's runner in training and testing.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice, pairwise
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserError
from mmdet.models.cuda_graphs import InferenceGraphs
from mmdet.models.dense_heads.rpn_head import Candidates
from mmdet.models.detectors.base import BaseDetector
from mmdet.models.necks import build_neck, check_normalization
from mmdet.models.roi_heads.mask_paste import paste_masks
from mmdet.models.roi_heads.roi_extractor import RoIExtractor
from mmdet.models.roi_heads.roi_targets import match_targets, roi_targets
from mmdet.models.task_modules.box_convention import BoxConvention
from mmdet.ops.device import Launched
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.device_rle import masks_at_once, masks_to_rle

Maps = Sequence[Tensor]


@MODELS.register_module()
class MaskTrackRCNN(BaseDetector):
    """Backbone → neck → region proposals → class, box, mask and track embedding of each region → tracker.

    Args:
        backbone, neck, rpn_head, bbox_head, mask_head, track_head, tracker: configs.
        assigner, sampler: configs of the heads' training targets; by default IoU .5, 512 regions, a quarter positive.
        roi_strides: strides of the maps that the heads use.
        mask_thr: pixels with a greater probability belong to the mask.
        legacy_boxes: x2 and y2 are inclusive and RoIAlign does not shift by half a pixel, as weights published for
            mmdetection 1 require; otherwise boxes are continuous.
        roi_aligned: whether RoIAlign shifts by half a pixel; None: not with ``legacy_boxes``. Weights of torchvision's
            Mask R-CNN were trained without (tools/model_converters/torchvision2masktrack.py).
        cuda_graphs: on a GPU, replay what is before, between and after the two NMS as CUDA graphs in testing, three per
            shape.
        data_preprocessor: config.
        init_cfg: mmengine's.
    """

    def __init__(self, backbone: dict, neck: dict, rpn_head: dict, bbox_head: dict, mask_head: dict, track_head: dict,
                 tracker: dict, assigner: dict | None = None, sampler: dict | None = None,
                 roi_strides: Sequence[int] = (4, 8, 16, 32), mask_thr: float = 0.5, legacy_boxes: bool = False,
                 roi_aligned: bool | None = None, cuda_graphs: bool = True,
                 data_preprocessor: dict | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(tracker, data_preprocessor, init_cfg)
        self.cuda_graphs = cuda_graphs
        self._graphs = InferenceGraphs(max_graphs=24)  # three for each shape
        self.convention = BoxConvention(legacy_boxes)
        legacy = dict(legacy_boxes=legacy_boxes)
        self.backbone = MODELS.build(backbone)
        self.neck = build_neck(neck, self.backbone, rpn_head.get('strides'), 'rpn_head.strides')
        check_normalization(self.backbone, self.data_preprocessor)
        levels = list(rpn_head.get('strides', roi_strides))[:len(roi_strides)]
        if list(roi_strides) != levels:
            raise UserError(f'model.roi_strides={list(roi_strides)}, but the maps have model.rpn_head.strides='
                            f'{list(rpn_head["strides"])}; set model.roi_strides={levels}')
        self.rpn_head = MODELS.build(rpn_head, default_args=legacy)
        self.bbox_head = MODELS.build(bbox_head, default_args=legacy)
        self.mask_head = MODELS.build(mask_head, default_args=legacy)
        self.track_head = MODELS.build(track_head)
        self.assigner = TASK_UTILS.build(
            assigner or dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5),
            default_args=legacy)
        self.sampler = TASK_UTILS.build(sampler or dict(type='RandomBoxSampler', num=512, pos_fraction=0.25))
        self.roi_extractor = RoIExtractor(roi_strides, legacy_boxes=legacy_boxes, aligned=roi_aligned)
        self.mask_thr = mask_thr

    def extract_feat(self, images: Tensor) -> Maps:
        """Compute the pyramid's maps of normalised images (B, 3, H, W)."""
        return self.neck(self.backbone(images))

    def roi_maps(self, maps: Maps, ref_maps: Maps) -> Maps:
        """Return the maps that the box and mask heads use: here ``maps``, those of the key frames."""
        return maps

    def loss(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> dict[str, Tensor]:
        """Compute the losses of N key/reference pairs; they are finite for any ground truth."""
        feats = self.extract_feat(inputs.transpose(0, 1).flatten(0, 1))  # all key frames, then all reference frames
        maps, ref_maps = zip(*(feat.chunk(2) for feat in feats))
        keys, references = zip(*((clip[0], clip[1]) for clip in data_samples))
        gt_bboxes, ref_bboxes = (
            [self.convention.from_annotation(frame.gt_instances.bboxes, frame.scale_factor) for frame in frames]
            for frames in (keys, references))

        logits, deltas = self.rpn_head(maps)
        losses = self.rpn_head.loss(logits, deltas, maps, gt_bboxes)
        proposals, valid = self.rpn_head.proposals(
            self.rpn_head.candidates(maps, logits, deltas, _img_shapes(keys, inputs.device)))
        rois = roi_targets(proposals, valid, gt_bboxes, [frame.gt_instances.labels for frame in keys], self.assigner,
                           self.sampler)
        roi_maps = self.roi_maps(maps, ref_maps)
        roi_feats = self.roi_extractor(roi_maps, rois.image, rois.bboxes, self.bbox_head.roi_size)
        positives = rois[rois.labels >= 0]
        losses |= self.bbox_head.loss(*self.bbox_head(roi_feats), rois.bboxes, rois.labels,
                                      torch.cat(gt_bboxes)[positives.gt_index])

        mask_feats = self.roi_extractor(roi_maps, positives.image, positives.bboxes, self.mask_head.roi_size)
        losses['loss_mask'] = self.mask_head.loss(
            self.mask_head(mask_feats), positives.labels, positives.bboxes,
            torch.cat([frame.gt_instances.masks for frame in keys]), positives.gt_index)

        ref_image, targets = match_targets([frame.gt_instances.instances_id for frame in keys],
                                           [frame.gt_instances.instances_id for frame in references])
        embeddings = self._embed(maps, positives.image, positives.bboxes)
        ref_embeddings = self._embed(ref_maps, ref_image, torch.cat(ref_bboxes))
        return losses | self.track_head.loss(embeddings, positives.image, targets[positives.gt_index], ref_embeddings,
                                             ref_image, len(keys))

    def detect(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> Iterator[list[InstanceData]]:
        """Detect objects in all frames of all clips at once."""
        frames = [frame for clip in data_samples for frame in clip]
        maps, candidates = self.run_dense(inputs.flatten(0, 1), frames)
        found = self.detect_in_maps(maps, candidates, maps, frames)
        work = Launched(inputs.device)

        def read() -> Iterator[list[InstanceData]]:
            with work.results():
                detections = iter(self.collect(frames, found))
            for clip in data_samples:
                yield list(islice(detections, len(clip)))

        return read()

    def run_dense(self, images: Tensor, frames: Sequence[DetDataSample]) -> tuple[Maps, Candidates]:
        """Compute the pyramid's maps of images (B, 3, H, W) and the candidates of the region proposals in them."""
        return self._run(self._graphed(images.device), self._dense, images, _img_shapes(frames, images.device))

    def _run(self, graphed: bool, function: Callable[..., Any], *args: object) -> Any:
        return self._graphs.run(function, *args) if graphed else function(*args)

    def _graphed(self, device: torch.device) -> bool:
        """Return whether to replay the parts between NMS, whose shapes are not fixed, as CUDA graphs.

        The time of a frame would be that of launching a thousand kernels.
        """
        return self.cuda_graphs and not self.training and self._graphs.available(device)

    def _dense(self, images: Tensor, img_shapes: Tensor) -> tuple[Maps, Candidates]:
        maps = self.extract_feat(images)
        return maps, self.rpn_head.candidates(maps, *self.rpn_head(maps), img_shapes)

    def _classify(self, roi_maps: Maps, proposals: Tensor, valid: Tensor, *geometry: Tensor) -> tuple[Tensor, Tensor]:
        """Compute what :meth:`Shared2FCBBoxHead.decode` returns for proposals (B, p, 4)."""
        batch, number = valid.shape
        image = torch.arange(batch, device=valid.device).repeat_interleave(number)
        views = len(roi_maps[0]) // batch
        roi_feats = self._pool_views(roi_maps, views, image, proposals.flatten(0, 1), self.bbox_head.roi_size)
        logits, deltas = (_mean_of_views(out, views) for out in self.bbox_head(roi_feats))
        return self.bbox_head.decode(logits, deltas, proposals, valid, *geometry)

    def _describe(self, maps: Maps, roi_maps: Maps, image: Tensor, bboxes: Tensor,
                  labels: Tensor) -> tuple[Tensor, Tensor]:
        """Compute embeddings (n, E) and mask probabilities (n, m, m) of boxes (n, 4) in network pixels."""
        views = len(roi_maps[0]) // len(maps[0])
        mask_feats = self._pool_views(roi_maps, views, image, bboxes, self.mask_head.roi_size)
        mask_logits = self.mask_head.of_label(self.mask_head(mask_feats).float(), labels.repeat_interleave(views))
        return self._embed(maps, image, bboxes), _mean_of_views(mask_logits, views).sigmoid()

    def train(self, mode: bool = True) -> MaskTrackRCNN:
        self._graphs.clear()  # training may replace tensors that the graphs read
        return super().train(mode)

    def detect_in_maps(self, maps: Maps, candidates: Candidates, roi_maps: Maps,
                       frames: Sequence[DetDataSample]) -> InstanceData:
        """Detect the objects of each frame; results stay on the device.

        Args:
            maps: (B, C, h_l, w_l), for embeddings.
            candidates: see :meth:`run_dense`.
            roi_maps: (B·V, C, h_l, w_l), for boxes and masks: V views of each frame, whose outputs are averaged.
            frames: B frames, whose metainfo is used.

        Returns:
            ``image`` (n,) index of the frame, ascending; ``bboxes`` (n, 4) in original pixels, ``scores``, ``labels``,
            in descending order of score within a frame; ``embeddings`` (n, E); ``mask_probs`` (n, m, m).
        """
        device = maps[0].device
        scale_factors = torch.tensor([float(frame.scale_factor) for frame in frames]).to(device, non_blocking=True)
        # with several views, their number varies
        graphed = self._graphed(device) and len(roi_maps[0]) == len(maps[0])
        proposals = self.rpn_head.proposals(candidates)
        decoded = self._run(graphed, self._classify, roi_maps, *proposals, _img_shapes(frames, device), scale_factors)
        bboxes, scores, labels = self.bbox_head.select(*decoded)
        image = torch.arange(len(frames), device=device).repeat_interleave(scores.shape[1])
        found = InstanceData(image=image, bboxes=bboxes.flatten(0, 1), scores=scores.flatten(), labels=labels.flatten())
        if not graphed:
            found = _without_empty_slots(found)
        network_bboxes = found.bboxes * scale_factors[found.image, None]
        found.embeddings, found.mask_probs = self._run(graphed, self._describe, maps, roi_maps, found.image,
                                                       network_bboxes, found.labels)
        return _without_empty_slots(found) if graphed else found

    def collect(self, frames: Sequence[DetDataSample], found: InstanceData) -> list[InstanceData]:
        """Copy the result of :meth:`detect_in_maps` to the host, masks as RLE; return the detections of each frame."""
        table = torch.column_stack([found.image, found.bboxes, found.scores, found.labels, found.embeddings])
        table = table.float().cpu()  # the only copy of the clips to the host, besides the masks' run lengths
        bounds = torch.searchsorted(table[:, 0].contiguous(), torch.arange(len(frames) + 1.0)).tolist()
        rles = self._rles(frames, found, bounds)
        return [InstanceData(bboxes=rows[:, 1:5], scores=rows[:, 5], labels=rows[:, 6].long(), embeddings=rows[:, 7:],
                             masks=rles[first:last])
                for first, last in pairwise(bounds) for rows in [table[first:last]]]

    def _rles(self, frames: Sequence[DetDataSample], found: InstanceData, bounds: list[int]) -> list[dict]:
        """Compute the RLE of every detection, in order; rows ``bounds[i]:bounds[i + 1]`` belong to frame i."""
        rles = []
        start = 0
        for (height, width), group in groupby(frames, key=lambda frame: tuple(frame.ori_shape)):
            stop = start + sum(1 for _ in group)
            rows = slice(bounds[start], bounds[stop])
            chunk = masks_at_once(height, width)
            for probs, bboxes in zip(found.mask_probs[rows].split(chunk), found.bboxes[rows].split(chunk)):
                rles += masks_to_rle(paste_masks(probs, bboxes, height, width, self.convention, self.mask_thr))
            start = stop
        return rles

    def _embed(self, maps: Maps, image: Tensor, bboxes: Tensor) -> Tensor:
        return self.track_head(self.roi_extractor(maps, image, bboxes, self.track_head.roi_size))

    def _pool_views(self, roi_maps: Maps, views: int, image: Tensor, bboxes: Tensor, size: int) -> Tensor:
        """Pool features (n·V, C, size, size) of ``bboxes`` (n, 4) of frames ``image`` (n,) in each of the V views."""
        if views > 1:
            image = (image[:, None] * views + torch.arange(views, device=image.device)).flatten()
            bboxes = bboxes.repeat_interleave(views, dim=0)
        return self.roi_extractor(roi_maps, image, bboxes, size)


def _mean_of_views(outputs: Tensor, views: int) -> Tensor:
    return outputs.unflatten(0, (-1, views)).mean(1)


def _without_empty_slots(found: InstanceData) -> InstanceData:
    return found[(found.scores >= 0).nonzero().squeeze(1)]


def _img_shapes(frames: Sequence[DetDataSample], device: torch.device) -> Tensor:
    # non_blocking: the host does not wait for the device
    shapes = torch.tensor([frame.img_shape[:2] for frame in frames], dtype=torch.float32)
    return shapes.to(device, non_blocking=True)
