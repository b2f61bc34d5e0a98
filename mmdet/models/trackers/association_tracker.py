"""Online tracker: gives the detections of each frame the ids of the objects seen before (paper section 3.4).

Called by the detectors' ``predict``, once a frame, in order. The only part of a model that holds video state.
"""
from __future__ import annotations

import numpy as np
import torch
from mmengine.structures import InstanceData

from mmdet.errors import UserError
from mmdet.models.trackers.association import NEW_TRACK, association_scores, resolve_claims
from mmdet.registry import MODELS


def _normalize(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.sqrt((vectors * vectors).sum(axis=1, keepdims=True)), 1e-12)


@MODELS.register_module()
class AssociationTracker:
    """Matches by appearance, score, overlap and class; a match renews a track's embedding and box, not its label.

    Args:
        similarity: ``'cosine'`` or ``'dot'`` product of embeddings.
        temperature: the similarity is divided by it.
        match_coeff: weights of ln(score), IoU+ and equal label.
        max_tracks: tracks remembered at most; those unseen longest leave first. Ids are never reused within a video.
    """

    def __init__(self, similarity: str = 'cosine', temperature: float = 0.1,
                 match_coeff: tuple[float, float, float] = (1.0, 2.0, 10.0), max_tracks: int = 500) -> None:
        if similarity not in ('cosine', 'dot'):
            raise UserError(f"AssociationTracker similarity={similarity!r} is unknown; use 'cosine' or 'dot'")
        if max_tracks < 1:
            raise UserError(f'AssociationTracker max_tracks={max_tracks} leaves no memory; use 1 or more')
        self.similarity, self.temperature = similarity, temperature
        self.match_coeff, self.max_tracks = tuple(match_coeff), max_tracks
        self.reset()

    def reset(self) -> None:
        """Forget everything: call before the first frame of a video, with detections or without."""
        self.next_id = 0
        self.frame = 0
        self.ids = np.zeros(0, np.int64)  # (M,)
        self.last_seen = np.zeros(0, np.int64)  # (M,) number of the frame
        self.labels = np.zeros(0, np.int64)  # (M,)
        self.bboxes = np.zeros((0, 4), np.float32)  # (M, 4) in original pixels
        self.embeddings = np.zeros((0, 0), np.float32)  # (M, C), of length 1 if compared by cosine

    def track(self, instances: InstanceData) -> InstanceData:
        """Detections of the next frame → those kept, with ``instances_id`` (int64).

        Args:
            instances: ``bboxes`` (n, 4) in original pixels, ``scores``, ``labels``, ``embeddings`` (n, C); best first;
                on the CPU.
        """
        self.frame += 1
        n = len(instances)
        if n == 0:
            instances.instances_id = torch.zeros(0, dtype=torch.long)
            return instances
        bboxes, labels = instances.bboxes.numpy(), instances.labels.numpy()
        embeddings = instances.embeddings.float().numpy()
        if self.similarity == 'cosine':
            embeddings = _normalize(embeddings)
        if len(self.ids):
            similarity = embeddings @ self.embeddings.T / self.temperature
            kept, columns = resolve_claims(association_scores(similarity, instances.scores.numpy(), bboxes, labels,
                                                              self.bboxes, self.labels, self.match_coeff))
        else:
            kept, columns = list(range(n)), [NEW_TRACK] * n
        ids = self._update(embeddings[kept], bboxes[kept], labels[kept], np.array(columns))
        if len(kept) < n:
            instances = instances[torch.tensor(kept, dtype=torch.long)]
        instances.instances_id = torch.from_numpy(ids)
        return instances

    def _update(self, embeddings: np.ndarray, bboxes: np.ndarray, labels: np.ndarray,
                columns: np.ndarray) -> np.ndarray:
        """Renew matched tracks, append new ones, forget the longest unseen; returns the id of each detection."""
        new = columns == NEW_TRACK
        tracks = columns[~new] - 1
        ids = np.empty(len(columns), np.int64)
        ids[~new] = self.ids[tracks]
        ids[new] = self.next_id + np.arange(new.sum())
        self.next_id += int(new.sum())
        if len(tracks):
            self.embeddings[tracks], self.bboxes[tracks] = embeddings[~new], bboxes[~new]
            self.last_seen[tracks] = self.frame
        if new.any():
            before = self.embeddings if len(self.ids) else embeddings[:0]
            self.embeddings = np.concatenate([before, embeddings[new]])
            self.bboxes = np.concatenate([self.bboxes, bboxes[new]])
            self.labels = np.concatenate([self.labels, labels[new]])
            self.ids = np.concatenate([self.ids, ids[new]])
            self.last_seen = np.concatenate([self.last_seen, np.full(new.sum(), self.frame)])
            self._forget()
        return ids

    def _forget(self) -> None:
        surplus = len(self.ids) - self.max_tracks
        if surplus <= 0:
            return
        # stable: among tracks last seen in the same frame the oldest leave first
        stay = np.sort(np.argsort(self.last_seen, kind='stable')[surplus:])
        for name in ('ids', 'last_seen', 'labels', 'bboxes', 'embeddings'):
            setattr(self, name, getattr(self, name)[stay])
