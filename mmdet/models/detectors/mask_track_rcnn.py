"""MaskTrack R-CNN (Yang et al., Video instance segmentation, ICCV 2019): two-stage detector, segmenter and tracker.

Built from a config by name; called by mmengine's runner in training and testing.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby, islice
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserError
from mmdet.models.cuda_graphs import InferenceGraphs
from mmdet.models.dense_heads.rpn_head import Candidates
from mmdet.models.detectors.base import BaseDetector
from mmdet.models.layers.half_weights import halve_weights
from mmdet.models.necks import build_neck, check_normalization
from mmdet.models.roi_heads.mask_paste import paste_masks
from mmdet.models.roi_heads.region_results import FixedDetections, to_results, to_rows
from mmdet.models.roi_heads.roi_extractor import RoIExtractor
from mmdet.models.roi_heads.roi_targets import match_targets, roi_targets
from mmdet.models.task_modules.box_convention import BoxConvention
from mmdet.ops.device import Launched, device_rows
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.device_rle import columns_to_rle, masks_at_once

Maps = Sequence[Tensor]
Read = Callable[[], list[InstanceData]]  # waits for launched detections; returns those of each frame


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
        cuda_graphs: on a GPU, replay the detection in frames as a CUDA graph in testing, one per shape.
        data_preprocessor: config.
        init_cfg: mmengine's.
    """

    learns_from_pairs = True

    def __init__(self, backbone: dict, neck: dict, rpn_head: dict, bbox_head: dict, mask_head: dict, track_head: dict,
                 tracker: dict, assigner: dict | None = None, sampler: dict | None = None,
                 roi_strides: Sequence[int] = (4, 8, 16, 32), mask_thr: float = 0.5, legacy_boxes: bool = False,
                 roi_aligned: bool | None = None, cuda_graphs: bool = True,
                 data_preprocessor: dict | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(tracker, data_preprocessor, init_cfg)
        self.cuda_graphs = cuda_graphs
        self._graphs = InferenceGraphs(max_graphs=16)  # two for each shape of CMaskTrack R-CNN
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
            self.rpn_head.candidates(maps, logits, deltas, _geometry(keys, inputs.device)[:, :2]))
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
        """Detect objects in all frames of all clips at once, if their original size is equal."""
        frames = [frame for clip in data_samples for frame in clip]
        groups = [list(group) for _, group in groupby(frames, key=_mask_shape)]
        images = inputs.flatten(0, 1).split([len(group) for group in groups])
        launched = [self.launch_frames(*pair) for pair in zip(images, groups)]

        def read() -> Iterator[list[InstanceData]]:
            detections = (instances for read_group in launched for instances in read_group())
            for clip in data_samples:
                yield list(islice(detections, len(clip)))

        return read()

    def launch_frames(self, images: Tensor, frames: Sequence[DetDataSample]) -> Read:
        """Launch the detection in images (B, 3, H, W) of one original size; ``frames`` are their metainfo."""
        geometry = _geometry(frames, images.device)

        def in_stages() -> InstanceData:
            maps, candidates = self._dense(images, geometry)
            return self._detect(maps, candidates, maps, geometry)

        return self._launch(frames, in_stages, self._detect_fixed, images, geometry)

    def launch_in_maps(self, maps: Maps, candidates: Candidates, roi_maps: Maps,
                       frames: Sequence[DetDataSample]) -> Read:
        """Launch the detection in maps.

        Args:
            maps: (B, C, h_l, w_l), for embeddings.
            candidates: see :meth:`run_dense`.
            roi_maps: (B·V, C, h_l, w_l), for boxes and masks: V views of each frame, whose outputs are averaged.
            frames: metainfo of B frames of one original size.
        """
        geometry = _geometry(frames, maps[0].device)
        in_stages = partial(self._detect, maps, candidates, roi_maps, geometry)
        # with several views, their number varies
        fixed = self._detect_fixed_in_maps if len(roi_maps[0]) == len(maps[0]) else None
        return self._launch(frames, in_stages, fixed, maps, candidates, roi_maps, geometry)

    def _launch(self, frames: Sequence[DetDataSample], in_stages: Callable[[], InstanceData],
                fixed: Callable[..., FixedDetections] | None, *args: Any) -> Read:
        """Launch the detection in frames, as a CUDA graph if possible.

        Args:
            frames: their metainfo; they have one original size.
            in_stages: detects the objects, and synchronises with the GPU.
            fixed: detects them without, in slots of a fixed number, in ``args`` and the size of the masks.
        """
        device, shape = args[-1].device, _mask_shape(frames[0])
        if fixed is None or not self._graphed(device):
            found = in_stages()
            work = Launched(device)

            def read() -> list[InstanceData]:
                with work.results():
                    return self.collect(frames, found)
        else:
            copied = self._graphs.run(fixed, *args, shape).start_copy()
            work = Launched(device)
            context = torch.autocast(device.type, torch.get_autocast_dtype(device.type),
                                     torch.is_autocast_enabled(device.type))

            def read() -> list[InstanceData]:
                work.wait()
                if copied.complete():
                    return copied.results(len(frames), *shape)
                with work.results(), context:  # rare: repeat the detection with the operators that the graph lacks
                    return self.collect(frames, in_stages())

        return read

    def run_dense(self, images: Tensor, frames: Sequence[DetDataSample]) -> tuple[Maps, Candidates]:
        """Compute the pyramid's maps of images (B, 3, H, W) and the candidates of the region proposals in them."""
        geometry = _geometry(frames, images.device)
        if self._graphed(images.device):
            return self._graphs.run(self._dense, images, geometry)
        return self._dense(images, geometry)

    def _graphed(self, device: torch.device) -> bool:
        """Return whether to replay CUDA graphs; otherwise a frame takes the time of launching a thousand kernels."""
        return self.cuda_graphs and not self.training and self._graphs.available(device)

    def _dense(self, images: Tensor, geometry: Tensor) -> tuple[Maps, Candidates]:
        maps = self.extract_feat(images)
        return maps, self.rpn_head.candidates(maps, *self.rpn_head(maps), geometry[:, :2])

    def _detect_fixed(self, images: Tensor, geometry: Tensor, shape: tuple[int, int]) -> FixedDetections:
        """Detect objects in images in the number of slots of :attr:`bbox_head`, with masks of (height, width)."""
        maps, candidates = self._dense(images, geometry)
        return self._detect_fixed_in_maps(maps, candidates, maps, geometry, shape)

    def _detect_fixed_in_maps(self, maps: Maps, candidates: Candidates, roi_maps: Maps, geometry: Tensor,
                              shape: tuple[int, int]) -> FixedDetections:
        proposals, valid, exact = self.rpn_head.fixed_proposals(candidates, self.rpn_head.level_sizes(maps))
        maps, roi_maps = self._prepared(maps, roi_maps)
        decoded = self._classify(roi_maps, proposals, valid, geometry)
        bboxes, scores, labels, all_found = self.bbox_head.fixed_select(*decoded)
        found = self._describe(maps, roi_maps, _slots(bboxes, scores, labels), geometry)
        return FixedDetections.of(found, exact & all_found, *shape, partial(self._paste, shape))

    def _detect(self, maps: Maps, candidates: Candidates, roi_maps: Maps, geometry: Tensor) -> InstanceData:
        """Detect objects in maps, see :meth:`launch_in_maps`; the results stay on the device.

        Returns:
            ``image`` (n,) index of the frame, ascending; ``bboxes`` (n, 4) in original pixels, ``scores``, ``labels``,
            in descending order of score within a frame; ``embeddings`` (n, E); ``mask_probs`` (n, m, m).
        """
        proposals, valid = self.rpn_head.proposals(candidates)
        maps, roi_maps = self._prepared(maps, roi_maps)
        decoded = self._classify(roi_maps, proposals, valid, geometry)
        found = _slots(*self.bbox_head.select(*decoded))
        return self._describe(maps, roi_maps, found[(found.scores >= 0).nonzero().squeeze(1)], geometry)

    def _prepared(self, maps: Maps, roi_maps: Maps) -> tuple[Maps, Maps]:
        prepared = self.roi_extractor.prepare(maps)
        return prepared, prepared if roi_maps is maps else self.roi_extractor.prepare(roi_maps)

    def _classify(self, roi_maps: Maps, proposals: Tensor, valid: Tensor, geometry: Tensor) -> tuple[Tensor, Tensor]:
        """Compute what :meth:`Shared2FCBBoxHead.decode` returns for proposals (B, p, 4)."""
        batch, number = valid.shape
        image = torch.arange(batch, device=valid.device).repeat_interleave(number)
        views = len(roi_maps[0]) // batch
        roi_feats = self._pool_views(roi_maps, views, image, proposals.flatten(0, 1), self.bbox_head.roi_size)
        logits, deltas = (_mean_of_views(out, views) for out in self.bbox_head(roi_feats))
        return self.bbox_head.decode(logits, deltas, proposals, valid, geometry[:, :2], geometry[:, 2])

    def _describe(self, maps: Maps, roi_maps: Maps, found: InstanceData, geometry: Tensor) -> InstanceData:
        """Add ``embeddings`` (n, E) and ``mask_probs`` (n, m, m) to detections."""
        views = len(roi_maps[0]) // len(maps[0])
        bboxes = found.bboxes * geometry[found.image, 2:]  # in network pixels
        mask_feats = self._pool_views(roi_maps, views, found.image, bboxes, self.mask_head.roi_size)
        mask_logits = self.mask_head.of_label(self.mask_head(mask_feats).float(),
                                              found.labels.repeat_interleave(views))
        found.embeddings = self._embed(maps, found.image, bboxes)
        found.mask_probs = _mean_of_views(mask_logits, views).sigmoid()
        return found

    def train(self, mode: bool = True) -> MaskTrackRCNN:
        self._graphs.clear()  # training may replace tensors that the graphs read
        return super().train(mode)

    def halve_weights(self, dtype: torch.dtype = torch.bfloat16) -> None:
        """Convert weights once, instead of at every step under autocast; see :func:`mmdet.models.layers.half_weights`.

        For testing under ``torch.autocast`` with the same dtype: same results, less time. Cannot be undone.
        """
        self._graphs.clear()  # they read the former weights
        halve_weights(self, dtype)

    def collect(self, frames: Sequence[DetDataSample], found: InstanceData) -> list[InstanceData]:
        """Copy the result of :meth:`_detect` to the host, masks as RLE; return the detections of each frame."""
        shape = _mask_shape(frames[0])
        rows = to_rows(found).cpu()  # the only copy of the clips to the host, besides the masks' run lengths
        rles = []
        at_once = masks_at_once(*shape)
        for probs, bboxes in zip(found.mask_probs.split(at_once), found.bboxes.split(at_once)):
            rles += columns_to_rle(self._paste(shape, probs, bboxes))
        return to_results(rows, rles, len(frames))

    def _paste(self, shape: tuple[int, int], probs: Tensor, bboxes: Tensor) -> Tensor:
        return paste_masks(probs, bboxes, *shape, self.convention, self.mask_thr)

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


def _slots(bboxes: Tensor, scores: Tensor, labels: Tensor) -> InstanceData:
    """Combine what :meth:`Shared2FCBBoxHead.select` returns for B frames of d slots: ``image`` and fields of B·d."""
    image = torch.arange(len(scores), device=scores.device).repeat_interleave(scores.shape[1])
    return InstanceData(image=image, bboxes=bboxes.flatten(0, 1), scores=scores.flatten(), labels=labels.flatten())


def _mask_shape(frame: DetDataSample) -> tuple[int, int]:
    return tuple(frame.ori_shape[:2])


def _geometry(frames: Sequence[DetDataSample], device: torch.device) -> Tensor:
    """Return (B, 3) float32: height and width without padding, in network pixels, and network pixels per original."""
    return device_rows([(float(height), float(width), float(frame.scale_factor))
                        for frame in frames for height, width in [frame.img_shape[:2]]], device)
