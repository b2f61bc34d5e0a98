"""Results computed from the logits of queries: of each frame online, and of a video at its end.

VidEoMT (arXiv 2602.17807). Built from a config by name; called by the detector ``VidEoMT`` in testing.

Symbols: T frames of a clip, Q queries, K classes, h×w mask logits, M results of a video.
"""
from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.arguments import checked_count, checked_number
from mmdet.errors import UserError
from mmdet.models.trackers.query_state import QueryState, best_pairs, can_enter
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.device_rle import masks_at_once, masks_to_rle
from mmdet.structures.instances import make_instances, select_instances
from mmdet.structures.masks import rle_boxes


class MaskGeometry(NamedTuple):
    """Sizes (h, w) of the padded input, of the resized frame without padding, and of the original frame."""

    padded: tuple[int, int]
    img_shape: tuple[int, int]
    ori_shape: tuple[int, int]


def restore_logits(logits: Tensor, geometry: MaskGeometry, direct: bool = False) -> Tensor:
    """Resize mask logits (n, h, w) to the size of the original frame: (n, H0, W0) float32.

    They are resized bilinearly to the padded input, cropped, and resized to the original size; with ``direct`` in one
    step, as the transformers library does for inputs without padding.
    """
    logits = logits.float()[None]
    if not direct:
        height, width = geometry.img_shape
        logits = F.interpolate(logits, geometry.padded, mode='bilinear')[..., :height, :width]
    return F.interpolate(logits, geometry.ori_shape, mode='bilinear')[0]


def mask_quality(logits: Tensor) -> Tensor:
    """Compute the mean probability (n,) of the pixels of each mask, given as logits (n, H, W); 0 for empty masks."""
    inside = logits > 0
    return (logits.sigmoid() * inside).sum((1, 2)) / (inside.sum((1, 2)) + 1e-6)


@MODELS.register_module()
class QueryTrackResults:
    """Compute the objects of each frame, with the query index as track id, and the tracks of each video of a data set.

    **Frame.** Each query has its most probable label. With ``score='frame'``, the score is the probability of the label
    in this frame times the mean probability of the mask's pixels (as in the transformers library); with
    ``score='mean'``, the probability of the label computed from the mean logits of all frames so far.

    **Video.** The M pairs of query and label with the highest probability, computed from the mean logits of all frames.
    They are known only at the last frame. Each frame of a data set therefore also has the masks of all queries that may
    still be among them, and the collector of results, such as :class:`~mmdet.evaluation.YouTubeVISMetric`, keeps those
    of the selected pairs.

    Args:
        max_per_video: M. 10 for YouTube-VIS, 20 for OVIS.
        score: ``'frame'`` or ``'mean'``.
        score_thr: objects of a frame with a score of at most this are dropped.
        max_per_frame: maximum number of objects of a frame.
        max_candidates: maximum number of queries whose masks a frame of a data set has, those with the highest
            probability by mean logits so far; None: all that may be among the best M, which is exact.
        direct_masks: resize masks in one step, without cropping the padding; only for inputs without padding.

    Raises:
        UserError: if ``score`` is unknown, or ``max_candidates`` is less than ``max_per_video``.
    """

    def __init__(self, max_per_video: int = 10, score: str = 'frame', score_thr: float = 0.05, max_per_frame: int = 50,
                 max_candidates: int | None = None, direct_masks: bool = False) -> None:
        if score not in ('frame', 'mean'):
            raise UserError(f"QueryTrackResults.score must be 'frame' or 'mean', not {score!r}")
        name = type(self).__name__
        checked_count(f'{name}.max_per_video', max_per_video, 1)
        checked_count(f'{name}.max_per_frame', max_per_frame, 1)
        checked_number(f'{name}.score_thr', score_thr, 0, 1)
        if max_candidates is not None and checked_count(f'{name}.max_candidates', max_candidates, 1) < max_per_video:
            raise UserError(f'QueryTrackResults.max_candidates={max_candidates} must be at least max_per_video='
                            f'{max_per_video}, or None')
        self.max_per_video = max_per_video
        self.score = score
        self.score_thr = score_thr
        self.max_per_frame = max_per_frame
        self.max_candidates = max_candidates
        self.direct_masks = direct_masks

    def add(self, frames: Sequence[DetDataSample], class_logits: Tensor, mask_logits: Tensor, state: QueryState,
            padded: tuple[int, int], difference_range: tuple[Tensor, Tensor]) -> None:
        """Add results to the frames of a clip, and update the state except for its queries.

        Args:
            frames: T frames of equal size. ``pred_track_instances`` is set; for data sets also ``video_candidates``,
                and ``video_tracks`` of the last frame of a video.
            class_logits: (T, Q, K + 1).
            mask_logits: (T, Q, h, w).
            state: state after the previous frames; updated in place.
            padded: (H, W) of the padded input.
            difference_range: see :func:`~mmdet.models.trackers.query_state.can_enter`.
        """
        class_logits = class_logits.float()
        geometry = MaskGeometry(padded, tuple(frames[0].img_shape[:2]), tuple(frames[0].ori_shape[:2]))
        start = None if state.logit_sum is None else state.logit_sum.to(class_logits.device)
        # added frame by frame: clips have the same results as single frames, and cumsum is not deterministic on a GPU
        sums = torch.stack(list(accumulate(class_logits, initial=start))[start is not None:])  # (T, Q, K + 1)
        counts = state.num_frames + torch.arange(1, len(frames) + 1, device=sums.device)
        shown = (sums / counts[:, None, None] if self.score == 'mean' else class_logits).softmax(-1)[..., :-1]
        scores, labels = shown.max(-1)  # (T, Q)
        state.logit_sum, state.num_frames = sums[-1].clone(), state.num_frames + len(frames)
        whole_video = _of_data_set(frames[0])
        wanted = self._above_threshold(scores)
        if whole_video:
            candidates = self._candidates(state, frames[0].video_length, difference_range)
            wanted |= candidates
        times, queries = wanted.nonzero(as_tuple=True)
        masks, quality = self._masks(mask_logits, times, queries, geometry)
        if self.score == 'frame':
            scores = scores.clone()
            scores[times, queries] *= quality
        self._fill(frames, times.tolist(), queries.tolist(), scores.cpu(), labels.cpu(), masks,
                   candidates.tolist() if whole_video else None)
        if whole_video and frames[-1].frame_id + 1 == frames[-1].video_length:
            scores, labels, queries = best_pairs(state.logit_sum / state.num_frames, self.max_per_video)
            frames[-1].video_tracks = InstanceData(instances_id=queries.cpu(), labels=labels.cpu(), scores=scores.cpu())

    def _above_threshold(self, scores: Tensor) -> Tensor:
        """Return a mask (T, Q) of the best ``max_per_frame`` scores above the threshold, without mask quality."""
        wanted = scores > self.score_thr
        if scores.shape[1] > self.max_per_frame:
            lowest = scores.topk(self.max_per_frame, dim=1).values[:, -1:]
            wanted &= scores >= lowest
        return wanted

    def _candidates(self, state: QueryState, length: int, difference_range: tuple[Tensor, Tensor]) -> Tensor:
        """Return a mask (Q,) of the queries that may still be among the best M."""
        assert state.logit_sum is not None
        still = can_enter(state.logit_sum, state.num_frames, length, difference_range, self.max_per_video)
        state.open = still if state.open is None else state.open.to(still.device) & still
        if self.max_candidates is not None and len(state.open) > self.max_candidates:
            best = state.logit_sum.div(state.num_frames).softmax(-1)[:, :-1].amax(1)
            state.open = state.open & (best >= best.topk(self.max_candidates).values[-1])
        return state.open

    def _masks(self, logits: Tensor, times: Tensor, queries: Tensor,
               geometry: MaskGeometry) -> tuple[list[dict], Tensor]:
        """Compute the RLE of n masks at the original size, and their quality (n,)."""
        height, width = geometry.ori_shape
        rles: list[dict] = []
        quality = []
        for rows in torch.arange(len(times), device=times.device).split(masks_at_once(height, width)):
            restored = restore_logits(logits[times[rows], queries[rows]], geometry, self.direct_masks)
            quality.append(mask_quality(restored))
            rles += masks_to_rle(restored > 0)
        return rles, torch.cat(quality) if quality else logits.new_zeros(0, dtype=torch.float32)

    def _fill(self, frames: Sequence[DetDataSample], times: list[int], queries: list[int], scores: Tensor,
              labels: Tensor, masks: list[dict], candidates: list[bool] | None) -> None:
        """Set the results of the frames; ``masks`` are sorted by frame, and empty ones are dropped."""
        boxes = torch.from_numpy(rle_boxes(masks)).float()
        boxes[:, 2:] += boxes[:, :2] - 1  # x2 and y2 are inclusive
        rows_of: list[list[int]] = [[] for _ in frames]
        for row, time in enumerate(times):
            if boxes[row, 2] >= boxes[row, 0]:
                rows_of[time].append(row)
        for time, (frame, rows) in enumerate(zip(frames, rows_of)):
            ids = torch.tensor([queries[row] for row in rows], dtype=torch.long)
            found = make_instances(dict(bboxes=boxes[rows], scores=scores[time, ids], labels=labels[time, ids],
                                        instances_id=ids, masks=[masks[row] for row in rows]))
            shown = (found.scores > self.score_thr).nonzero().squeeze(1)
            shown = shown[found.scores[shown].argsort(descending=True, stable=True)][:self.max_per_frame]
            frame.pred_track_instances = select_instances(found, shown.tolist())
            if candidates is not None:
                frame.video_candidates = select_instances(
                    found, [row for row, query in enumerate(ids.tolist()) if candidates[query]])


def _of_data_set(frame: DetDataSample) -> bool:
    """Return whether results of whole videos are needed: for data sets, not for streams, which may never end."""
    return 'video_length' in frame and 'source_frame' not in frame
