"""Online tracker that associates the detections of each frame with the tracks of earlier frames (paper section 3.4).

Called by the detectors' ``predict`` for each frame in order. Three sections: the state of one stream, the association
as pure functions, and the tracker, which applies them to a state.

Arrays are NumPy's: with about ten objects per frame, PyTorch's overhead per call would dominate.

Symbols: N detections of the frame, M tracks in the state, C channels of an embedding. Column 0 of a score matrix is the
dummy track "new object".
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from mmengine.structures import InstanceData

from mmdet.arguments import checked_count, checked_flag, checked_number, checked_numbers, checked_positive
from mmdet.errors import UserError
from mmdet.registry import MODELS
from mmdet.structures import StreamState, legacy_iou
from mmdet.structures.instances import select_instances

NEW_TRACK = 0
MAX_WEIGHT = 10 ** 6  # of match_coeff and new_logit, so that scores are finite
MOTION_FRAMES = 3  # frames for which a box is predicted at most; longer, the velocity says little


# ---------------------------------------------------------------------------------------------------------------------
# State of a stream


@dataclass(eq=False)
class TrackState(StreamState):
    """The tracks of one video.

    Attributes:
        num_frames: number of frames tracked so far.
        next_id: id of the next new track.
        ids: (M,) int64.
        last_seen: (M,) int64, value of ``num_frames`` at the frame of the last match.
        labels: (M,) int64.
        bboxes: (M, 4) float32 in original pixels.
        embeddings: (M, C) float32, normalised if compared by cosine.
        velocities: (M, 2) float32, x and y of the centre of the box in original pixels per tracked frame (those that
            a camera drops do not count); 0 before the second match, and without ``motion``.
    """

    num_frames: int = 0
    next_id: int = 0
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    last_seen: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    bboxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    embeddings: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    velocities: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32))

    def predicted_bboxes(self) -> np.ndarray:
        """Return the boxes (M, 4) moved by their velocities to the current frame, for :data:`MOTION_FRAMES` at most."""
        frames = np.minimum(self.num_frames - self.last_seen, MOTION_FRAMES).astype(np.float32)
        return self.bboxes + np.tile(self.velocities * frames[:, None], 2)

    def update(self, columns: np.ndarray, embeddings: np.ndarray, bboxes: np.ndarray,
               labels: np.ndarray, momentum: float = 0.0, motion: bool = False) -> np.ndarray:
        """Update matched tracks (embedding and box, not the label) and append new ones.

        Args:
            columns: (N,) :data:`NEW_TRACK`, or 1 + index of the track; each track at most once.
            embeddings, bboxes, labels: (N, C), (N, 4) and (N,) of the detections.
            momentum: weight of the former embedding of a matched track, in [0, 1].
            motion: whether velocities are updated: to the mean of the former one and of the displacement per frame
                since the last match; to the latter if the former is 0.

        Returns:
            (N,) ids of the detections.
        """
        new = columns == NEW_TRACK
        tracks = columns[~new] - 1
        ids = np.empty(len(columns), np.int64)
        ids[~new] = self.ids[tracks]
        ids[new] = self.next_id + np.arange(new.sum())
        self.next_id += int(new.sum())
        if len(tracks):
            if motion:
                shift = (bboxes[~new] - self.bboxes[tracks]).reshape(-1, 2, 2).mean(axis=1)
                newest = shift / (self.num_frames - self.last_seen[tracks])[:, None]
                former = self.velocities[tracks]
                self.velocities[tracks] = np.where(former.any(axis=1, keepdims=True), (former + newest) / 2, newest)
            found = embeddings[~new]
            self.embeddings[tracks] = momentum * self.embeddings[tracks] + (1 - momentum) * found if momentum else found
            self.bboxes[tracks] = bboxes[~new]
            self.last_seen[tracks] = self.num_frames
        if new.any():
            before = self.embeddings if len(self.ids) else embeddings[:0]
            self.embeddings = np.concatenate([before, embeddings[new]])
            self.bboxes = np.concatenate([self.bboxes, bboxes[new]])
            self.labels = np.concatenate([self.labels, labels[new]])
            self.ids = np.concatenate([self.ids, ids[new]])
            self.last_seen = np.concatenate([self.last_seen, np.full(new.sum(), self.num_frames)])
            self.velocities = np.concatenate([self.velocities, np.zeros((new.sum(), 2), np.float32)])
        return ids

    def evict(self, max_tracks: int) -> None:
        """Evict the least recently seen tracks until at most ``max_tracks`` are left."""
        surplus = len(self.ids) - max_tracks
        if surplus <= 0:
            return
        # stable, so that among tracks last seen in the same frame the oldest are evicted first
        stay = np.sort(np.argsort(self.last_seen, kind='stable')[surplus:])
        for name in ('ids', 'last_seen', 'labels', 'bboxes', 'embeddings', 'velocities'):
            setattr(self, name, getattr(self, name)[stay])


# ---------------------------------------------------------------------------------------------------------------------
# Association


def association_scores(similarity: np.ndarray, scores: np.ndarray, bboxes: np.ndarray, labels: np.ndarray,
                       track_bboxes: np.ndarray, track_labels: np.ndarray,
                       match_coeff: tuple[float, float, float] = (1.0, 2.0, 10.0),
                       new_logit: float = 0.0) -> np.ndarray:
    """Compute the score of every pair of a detection and the dummy or a track.

    log-softmax over [new_logit, similarity] + a·ln(score) + b·IoU⁺ + c·[same label], where IoU⁺ is the IoU of boxes
    whose x2, y2 are inclusive. For the dummy, the IoU is 0 and the label is the same.

    Args:
        similarity: (N, M) logits of appearance similarity.
        scores: (N,) detection scores in (0, 1].
        bboxes, labels: (N, 4) and (N,) of the detections; boxes in original pixels.
        track_bboxes, track_labels: (M, 4) and (M,) of the tracks.
        match_coeff: a, b, c.
        new_logit: similarity logit of the dummy.

    Returns:
        (N, M + 1).
    """
    weight_score, weight_iou, weight_label = match_coeff
    result = np.zeros((len(similarity), similarity.shape[1] + 1), np.float32)
    result[:, 0] = new_logit
    result[:, 1:] = similarity
    largest = result.max(axis=1, keepdims=True)
    result -= largest + np.log(np.exp(result - largest).sum(axis=1, keepdims=True))
    result += weight_score * np.log(scores)[:, None]
    result[:, 0] += weight_label
    result[:, 1:] += weight_iou * legacy_iou(bboxes, track_bboxes)
    result[:, 1:] += weight_label * (labels[:, None] == track_labels[None])
    return result


def resolve_claims(match_scores: np.ndarray) -> tuple[list[int], list[int]]:
    """Assign each detection to its column of highest score (N, M + 1); a track keeps the detection of highest score.

    On ties it keeps the first one. Its other detections are dropped for this frame.

    Returns:
        ``(kept, columns)``: indices of the detections kept, ascending, and the column of each (:data:`NEW_TRACK` or
        1 + track).
    """
    columns = match_scores.argmax(axis=1)
    best = match_scores[np.arange(len(columns)), columns].tolist()
    columns = columns.tolist()
    winner: dict[int, int] = {}
    for detection, column in enumerate(columns):
        if column != NEW_TRACK and (column not in winner or best[detection] > best[winner[column]]):
            winner[column] = detection
    kept = [i for i, column in enumerate(columns) if column == NEW_TRACK or winner[column] == i]
    return kept, [columns[i] for i in kept]


def resolve_greedily(match_scores: np.ndarray) -> tuple[list[int], list[int]]:
    """Assign pairs of a detection and a track greedily, in descending order of score; no detection is dropped.

    Only pairs whose score exceeds that of the detection's dummy are assigned; other detections start new tracks.
    Returns the same as :func:`resolve_claims`.
    """
    gain = match_scores[:, 1:] - match_scores[:, :1]
    columns = [NEW_TRACK] * len(gain)
    taken: set[int] = set()
    candidates = np.argwhere(gain > 0)
    order = np.argsort(-match_scores[:, 1:][gain > 0], kind='stable')
    for detection, track in candidates[order].tolist():
        if columns[detection] == NEW_TRACK and track not in taken:
            columns[detection] = 1 + track
            taken.add(track)
    return list(range(len(columns))), columns


def normalize(vectors: np.ndarray) -> np.ndarray:
    """Normalise vectors (N, C) to length 1; zero vectors stay zero."""
    return vectors / np.maximum(np.sqrt((vectors * vectors).sum(axis=1, keepdims=True)), 1e-12)


def finite_instances(instances: InstanceData) -> InstanceData:
    """Drop the detections whose box or embedding has an infinite or NaN element, as half precision may give.

    One such embedding in a state would make the scores of all later detections NaN.
    """
    values = [instances.bboxes.numpy(), instances.embeddings.float().numpy()]
    if all(np.isfinite(array).all() for array in values):
        return instances
    return select_instances(instances, np.flatnonzero(np.isfinite(np.concatenate(values, axis=1)).all(axis=1)).tolist())


_ASSIGNMENTS = {'claims': resolve_claims, 'greedy': resolve_greedily}


# ---------------------------------------------------------------------------------------------------------------------
# Tracker


@MODELS.register_module()
class AssociationTracker:
    """Associate detections with tracks by appearance, score, IoU and class. Stateless; the caller holds the states.

    Args:
        similarity: similarity of embeddings, ``'cosine'`` or ``'dot'`` product.
        temperature: divisor of the similarity.
        match_coeff: weights of ln(score), IoU⁺ and equal label, see :func:`association_scores`.
        max_tracks: maximum number of tracks in a state; the least recently seen are evicted. Ids are never reused
            within a video.
        new_logit: similarity logit of "new object"; published: 0. Should be larger for embeddings that were not trained
            to be orthogonal for different objects.
        assignment: ``'claims'``, as published, see :func:`resolve_claims`; ``'greedy'``, see :func:`resolve_greedily`.
        embedding_momentum: weight of a track's former embedding when it is matched, in [0, 1]. Published: 0, the
            embedding of the last match.
        motion: whether IoU⁺ is that of the track's box moved by its velocity, see
            :meth:`TrackState.predicted_bboxes`. Published: False, of its last box.

    Raises:
        UserError: an argument has no valid value.
    """

    def __init__(self, similarity: str = 'cosine', temperature: float = 0.1,
                 match_coeff: Sequence[float] = (1.0, 2.0, 10.0), max_tracks: int = 500, new_logit: float = 0.0,
                 assignment: str = 'claims', embedding_momentum: float = 0.0, motion: bool = False) -> None:
        if similarity not in ('cosine', 'dot'):
            raise UserError(f"AssociationTracker similarity={similarity!r} is unknown; use 'cosine' or 'dot'")
        if assignment not in _ASSIGNMENTS:
            raise UserError(f'AssociationTracker assignment={assignment!r} is unknown; use one of '
                            f'{", ".join(_ASSIGNMENTS)}')
        self.similarity, self.assign = similarity, _ASSIGNMENTS[assignment]
        self.temperature = checked_positive('AssociationTracker temperature', temperature)
        weight_score, weight_iou, weight_label = checked_numbers(
            'AssociationTracker match_coeff (weights of ln(score), IoU and equal label)', match_coeff, 3, 0, MAX_WEIGHT)
        self.match_coeff = (weight_score, weight_iou, weight_label)
        self.max_tracks = checked_count('AssociationTracker max_tracks', max_tracks, 1)
        self.new_logit = checked_number('AssociationTracker new_logit', new_logit, -MAX_WEIGHT, MAX_WEIGHT)
        self.embedding_momentum = checked_number('AssociationTracker embedding_momentum', embedding_momentum, 0, 1)
        self.motion = checked_flag('AssociationTracker motion', motion)

    def new_state(self) -> TrackState:
        """Return the state of a stream before its first frame."""
        return TrackState()

    def track(self, instances: InstanceData, state: TrackState) -> InstanceData:
        """Associate the detections of the next frame with the tracks of its stream.

        Args:
            instances: ``bboxes`` (N, 4) in original pixels, ``scores``, ``labels``, ``embeddings`` (N, C); in
                descending order of score; on the CPU.
            state: state of the stream; updated in place.

        Returns:
            The kept detections, with ``instances_id`` (int64). Those of :func:`finite_instances` alone are tracked.
        """
        state.num_frames += 1
        instances = finite_instances(instances)
        n = len(instances)
        if n == 0:
            instances.instances_id = torch.zeros(0, dtype=torch.long)
            return instances
        bboxes, labels = instances.bboxes.numpy(), instances.labels.numpy()
        embeddings = instances.embeddings.float().numpy()
        if self.similarity == 'cosine':
            embeddings = normalize(embeddings)
        if len(state.ids):
            similarity = embeddings @ state.embeddings.T / self.temperature
            kept, columns = self.assign(association_scores(similarity, instances.scores.numpy(), bboxes, labels,
                                                           state.predicted_bboxes() if self.motion else state.bboxes,
                                                           state.labels, self.match_coeff, self.new_logit))
        else:
            kept, columns = list(range(n)), [NEW_TRACK] * n
        ids = state.update(np.array(columns), embeddings[kept], bboxes[kept], labels[kept], self.embedding_momentum,
                           self.motion)
        if self.embedding_momentum and self.similarity == 'cosine':
            state.embeddings = normalize(state.embeddings)
        state.evict(self.max_tracks)
        if len(kept) < n:
            instances = select_instances(instances, kept)
        instances.instances_id = torch.from_numpy(ids)
        return instances
